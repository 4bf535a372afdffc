"""The overhead benchmark from end to end, as short as it can be: its figures mean nothing here, their books do."""

import asyncio
import json
from pathlib import Path

import pytest

from bench.overhead.command import main
from bench.overhead.report import overhead_table
from bench.overhead.settings import HeldStreamSettings, OverheadSettings
from bench.overhead.study import run


@pytest.mark.timeout(180)  # starts nine servers one after the other
async def test_all_parts_of_a_short_benchmark_add_up() -> None:
    settings = OverheadSettings(
        rounds=1,
        seconds=0.2,
        memory_requests=(50, 100),
        held=HeldStreamSettings(streams=20, seconds=1.0, tokens_per_second=10, ramp_seconds=0.2),
    )
    said: list[str] = []
    result = await asyncio.to_thread(run, settings, said.append)
    assert list(result.chat_requests.samples) == ["direct", "wattline"]
    for contest in (result.chat_requests, result.stream_chunks, result.coalesced_chunks):
        assert all(contest.median(who) > 0 and contest.errors(who) == 0 for who in contest.samples)
    assert result.memory.errors == 0
    held = result.held
    assert held is not None
    for one in (held.direct, held.through):
        assert (one.streams, one.most_at_once, one.errors) == (20, 20, 0)
        assert one.chunks == 20 * (settings.held.max_tokens + 2)
        assert one.gap_p50_seconds == pytest.approx(0.1, abs=0.05)
    assert held.idle.streams == 20
    assert "streamed chunks/s" in overhead_table(result)
    assert json.loads(json.dumps(result.as_json()))["chat_requests_per_second"]["ratio"] > 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--peers", "nobody"], "'nobody' is none of vllm-router, litellm"),
        (["--rounds", "0"], "--rounds is 0, expected at least 1"),
        (["--stream-seconds", "nan"], "--stream-seconds is nan"),
        (["--peers", "litellm", "--engine-socket", "unix"], "expected tcp"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
