"""Traces as they are read, and the requests that are made of them."""

import os
from pathlib import Path
from statistics import pvariance

import pytest

from bench.simulation import workload
from bench.simulation.errors import SimulationSettingError
from bench.simulation.trace import TraceRequest, read_trace
from bench.simulation.workload import PlannedRequest, WorkloadSettings, plan_requests, shape_ratio

HEADING = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
# The trace is not part of the repository; a copy is looked for in a folder beside the checkout.
_BESIDE = Path(__file__).resolve().parents[4] / "shared" / "data" / "azure_llm_2023_conv.csv"
AZURE_HOUR = Path(os.environ.get("AZURE_LLM_TRACE", _BESIDE))
DAY_SECONDS = 86_400.0
EVEN = tuple(TraceRequest(float(second), 100 + second, 10) for second in range(100))


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return path


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(SimulationSettingError) as raised:
        read_trace(written(folder, text))
    return str(raised.value)


def planned(**settings: float) -> tuple[PlannedRequest, ...]:
    return plan_requests(EVEN, WorkloadSettings(**settings))  # type: ignore[arg-type]  # some are whole numbers


def test_a_trace_counts_from_its_first_request(tmp_path: Path) -> None:
    lines = "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
    first, second = read_trace(written(tmp_path, HEADING + lines))
    assert first == TraceRequest(0.0, 374, 44)
    assert second.at_seconds == pytest.approx(4.314579, abs=1e-6)
    assert (second.prompt_tokens, second.output_tokens) == (396, 109)


def test_columns_may_stand_in_any_order_among_others_in_files_of_any_system(tmp_path: Path) -> None:
    text = (
        "\ufeffGeneratedTokens,Note,TIMESTAMP,ContextTokens\r\n"
        '5,"a,b",2024-05-10 00:00:02+00:00,7\r\n\r\n6,,2024-05-10 00:00:01+00:00,8\r\n'
    )
    assert read_trace(written(tmp_path, text)) == (TraceRequest(0.0, 8, 6), TraceRequest(1.0, 7, 5))


def test_nothing_to_compute_is_one_token(tmp_path: Path) -> None:
    assert read_trace(written(tmp_path, f"{HEADING}2023-11-16 18:15:46,0,0\n")) == (TraceRequest(0.0, 1, 1),)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("yesterday,1,2", "line 3: TIMESTAMP is 'yesterday', expected an instant like 2023-11-16 18:15:46.6805900"),
        ("2023-11-16 18:15:46,-1,2", "line 3: ContextTokens is '-1', expected a whole number from 0 to 10000000"),
        ("2023-11-16 18:15:46,1,2.5", "line 3: GeneratedTokens is '2.5', expected a whole number from 0 to 10000000"),
        ("2023-11-16 18:15:46,99999999999999,2", "line 3: ContextTokens is '99999999999999', expected"),
        ("2023-11-16 18:15:46,1", "line 3: expected the columns TIMESTAMP, ContextTokens, GeneratedTokens, found 2"),
    ],
)
def test_a_bad_line_is_named_with_what_was_expected(tmp_path: Path, line: str, said: str) -> None:
    told = complaint(tmp_path, f"{HEADING}2023-11-16 18:15:46,1,2\n{line}\n")
    assert told.startswith(f"trace {tmp_path / 'trace.csv'}, {said}")
    assert "\n" not in told


def test_a_file_that_is_no_trace_is_named(tmp_path: Path) -> None:
    assert "expected the heading TIMESTAMP,ContextTokens,GeneratedTokens, found 'a,b'" in complaint(tmp_path, "a,b\n")
    assert "found 'an empty line'" in complaint(tmp_path, "")
    assert "expected at least one request" in complaint(tmp_path, HEADING)
    with pytest.raises(SimulationSettingError, match=r"none\.csv: No such file"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(SimulationSettingError, match="directory"):
        read_trace(tmp_path)
    (tmp_path / "bytes.csv").write_bytes(HEADING.encode() + b"\xff\xfe\x00\n")
    with pytest.raises(SimulationSettingError, match="UTF-8"):
        read_trace(tmp_path / "bytes.csv")


def test_a_rate_scale_divides_the_gaps() -> None:
    assert [one.arrives_at_seconds for one in planned(rate_scale=4)] == [second / 4 for second in range(100)]


def test_a_duration_repeats_and_cuts_the_trace() -> None:
    long, short = planned(duration_seconds=250.0), planned(duration_seconds=30.0)
    assert [one.arrives_at_seconds for one in long] == [float(second) for second in range(250)]
    assert [one.prompt_tokens for one in long] == [100 + second % 100 for second in range(250)]
    assert len(short) == 30


def test_a_day_is_quiet_at_its_ends_and_peaks_at_the_rate_of_the_trace() -> None:
    settings = WorkloadSettings(duration_seconds=DAY_SECONDS, peak_to_trough_ratio=3.0)
    arrivals = [one.arrives_at_seconds for one in plan_requests(EVEN, settings)]
    by_hour = [sum(hour * 3600 <= at < (hour + 1) * 3600 for at in arrivals) / 3600 for hour in range(24)]
    assert by_hour[0] == pytest.approx(1 / 3, rel=0.1)
    assert by_hour[11] == pytest.approx(1.0, rel=0.02)
    assert max(by_hour) / min(by_hour) == pytest.approx(3.0, rel=0.15)
    assert len(arrivals) / DAY_SECONDS == pytest.approx(2 / 3, rel=0.02)
    assert (shape_ratio(0, settings), shape_ratio(DAY_SECONDS / 2, settings)) == pytest.approx((1 / 3, 1.0))


def test_bursts_outlive_the_shape_of_the_day() -> None:
    bursty = tuple(TraceRequest(float(second // 10 * 10), 1, 1) for second in range(1000))
    settings = WorkloadSettings(duration_seconds=10_000.0, peak_to_trough_ratio=2.0)
    arrivals = [one.arrives_at_seconds for one in plan_requests(bursty, settings)]
    counts = [sum(second <= at < second + 1 for at in arrivals) for second in range(4000, 6000)]
    assert pvariance(counts) > 4 * (sum(counts) / len(counts)), "a Poisson stream has a variance of its mean"


def test_one_seed_gives_one_workload_and_another_another() -> None:
    shaped = {"duration_seconds": 1000.0, "peak_to_trough_ratio": 3.0, "flex_share_ratio": 0.3}
    assert planned(**shaped, seed=5) == planned(**shaped, seed=5) != planned(**shaped, seed=6)


def test_a_share_is_flex_and_changes_no_arrival() -> None:
    shaped = {"duration_seconds": 20_000.0, "peak_to_trough_ratio": 3.0}
    plain, mixed = planned(**shaped), planned(**shaped, flex_share_ratio=0.3)
    assert [one.arrives_at_seconds for one in plain] == [one.arrives_at_seconds for one in mixed]
    assert sum(one.tier == "flex" for one in mixed) / len(mixed) == pytest.approx(0.3, abs=0.02)
    assert {one.tier for one in plain} == {"default"}
    assert {one.tier for one in planned(flex_share_ratio=1.0)} == {"flex"}


def test_a_limit_keeps_the_first_requests() -> None:
    assert planned(limit_requests=7) == planned()[:7]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rate_scale": 0.0}, "--rate-scale is 0.0, expected a finite number above 0"),
        ({"rate_scale": float("nan")}, "--rate-scale is nan"),
        ({"duration_seconds": -1.0}, "--duration-seconds is -1.0"),
        ({"duration_seconds": 1e308}, "--duration-seconds is 1e+308, expected seconds above 0 and at most 2678400"),
        ({"peak_to_trough_ratio": 0.5}, "--diurnal-peak-to-trough is 0.5"),
        ({"period_seconds": 0.0}, "--diurnal-period-seconds is 0.0"),
        ({"period_seconds": 1e-320, "peak_to_trough_ratio": 2.0}, "--diurnal-period-seconds is 1e-320"),
        ({"flex_share_ratio": 1.5}, "--flex-share is 1.5, expected a number from 0 to 1"),
        ({"limit_requests": 0}, "--limit-requests is 0"),
    ],
)
def test_a_setting_without_sense_is_named(settings: dict[str, float], said: str) -> None:
    with pytest.raises(SimulationSettingError) as raised:
        planned(**settings)
    assert str(raised.value).startswith(said)


def test_thinning_that_leaves_hardly_anybody_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "_MOST_LOOKED_AT", 1000)
    with pytest.raises(SimulationSettingError, match=r"1001 arrivals by .* leave 0 requests"):
        planned(rate_scale=1e12, duration_seconds=DAY_SECONDS, peak_to_trough_ratio=1e9)


def test_a_trace_of_one_instant_cannot_be_repeated() -> None:
    with pytest.raises(SimulationSettingError, match="spans no time"):
        plan_requests(EVEN[:1], WorkloadSettings(duration_seconds=10.0))


@pytest.mark.skipif(not AZURE_HOUR.is_file(), reason=f"no trace at {AZURE_HOUR}: set AZURE_LLM_TRACE to one")
def test_the_azure_hour_is_read_whole() -> None:
    trace = read_trace(AZURE_HOUR)
    assert len(trace) == 19_366
    assert trace[-1].at_seconds == pytest.approx(3501.7, abs=0.1)
