"""`wattline simulate`: one object for programs, a table for people, and one line for what the operator got wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.simulation.command import main
from tests.integration.processes import clean_environ


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Two requests a second for a minute."""
    path = tmp_path / "trace.csv"
    lines = [f"2023-11-16 18:15:{number / 2:09.6f},{100 + 10 * number},{20 + number}" for number in range(120)]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]))
    return path


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "server", "simulate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=clean_environ(), timeout=30, check=False)


def printed(capsys: pytest.CaptureFixture[str], trace: Path, *arguments: str) -> str:
    main(["--trace", str(trace), *arguments])
    out, err = capsys.readouterr()
    assert err == ""
    return out


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert (ended.value.code, out) == (2, "")
    return line.removeprefix("wattline: error: ")


def test_one_object_for_programs_and_the_same_again(trace: Path) -> None:
    arguments = ("--trace", str(trace), "--gpu", "h100", "--model", "llama-3.1-8b", "--gpus", "2", "--rate-scale", "4")
    first, again = (simulate(*arguments, "--flex-share", "0.3", "--compare", "round-robin", "--json") for _ in range(2))
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == again.stdout
    told = json.loads(first.stdout)
    assert told["policy"] == "energy"
    assert {"p50", "p99"} <= set(told["ttft_seconds"]) & set(told["tpot_seconds"])
    assert told["output_tokens"] == sum(range(20, 140))
    (other,) = told["comparison"]
    assert other["policy"] == "round-robin"
    assert other["saved_ratio"] == pytest.approx(1 - told["energy_joules"] / other["energy_joules"])


@pytest.mark.parametrize(
    "arguments",
    [("--no-such-option",), ("--trace", "/no/such/trace.csv"), ("--trace", "/no/such/trace.csv", "--gpus", "many"), ()],
)
def test_what_is_wrong_is_one_line_and_no_traceback(arguments: tuple[str, ...]) -> None:
    ended = simulate(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("wattline: error: ")


def test_help_explains_what_is_counted() -> None:
    ended = simulate("--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "usage: wattline simulate" in ended.stdout
    assert "all requests but flex" in " ".join(ended.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--gpu", "abacus"), "gpu='abacus': expected one of "),
        (("--model", "eliza"), "model='eliza': expected one of "),
        (("--gpus", "0"), "--gpus is 0, expected a multiple of 1"),
        (("--gpus", "6", "--model", "llama-3.1-70b"), "--gpus is 6, expected a multiple of 4: one engine of llama-3.1"),
        (("--gpus", "-8"), "--gpus is -8, expected a multiple of 1"),
        (("--gpus", "1000000"), "--gpus is 1000000, expected at most "),
        (("--rate-scale", "0"), "--rate-scale is 0.0, expected a finite number above 0"),
        (("--rate-scale", "1e-6"), "7 requests over"),
        (("--rate-scale", "fast"), "argument --rate-scale: invalid float value: 'fast'"),
        (("--flex-share", "30"), "--flex-share is 30.0, expected a number from 0 to 1"),
        (("--slo-ttft-seconds", "nan"), "slo_ttft_seconds is nan, expected finite seconds above 0"),
        (("--min-workers", "-1"), "min_workers is -1, expected"),
        (("--power-cap-watts", "0"), "power_cap_watts is 0.0, expected"),
        (("--policy", "random"), "argument --policy: invalid choice: 'random' (choose from "),
        (("--report-seconds", "0"), "--report-seconds is 0.0, expected seconds from 0.01 to 3600"),
        (("--max-sequences", "0"), "--max-sequences is 0, expected at least 1"),
        (("--max-sequences", "512", "--max-batched-tokens", "256"), "--max-sequences is 512, expected at least 1 and"),
        (("--parameters", "8e9"), "a model of its sizes needs --parameters, --weight-bytes and --kv-bytes-per-token"),
        (("--gpus-per-engine", "2"), "--gpus-per-engine and --active-parameters need --parameters"),
        (("--hours", "2", "--duration-seconds", "5"), "argument --duration-seconds: not allowed with argument --hours"),
        (("--size-fleet", "round-robin", "--slo-tpot-seconds", "1e-6"), "--size-fleet: "),
        (("--size-fleet", "round-robin", "--flex-share", "1"), "--size-fleet needs requests that are not flex"),
        (("--size-fleet", "round-robin", "--size-headroom", "-1"), "--size-headroom is -1.0, expected"),
    ],
)
def test_a_setting_that_is_wrong(
    capsys: pytest.CaptureFixture[str], trace: Path, arguments: tuple[str, ...], said: str
) -> None:
    assert complaint(capsys, "--trace", str(trace), *arguments).startswith(said)


def test_sizes_that_make_no_sense_are_named(capsys: pytest.CaptureFixture[str], trace: Path) -> None:
    sizes = ("--parameters", "8e9", "--weight-bytes", "nan", "--kv-bytes-per-token", "131072")
    assert "weight_bytes" in complaint(capsys, "--trace", str(trace), *sizes)


def test_a_model_known_by_its_sizes_only(capsys: pytest.CaptureFixture[str], trace: Path) -> None:
    sizes = ("--parameters", "14e9", "--weight-bytes", "28e9", "--kv-bytes-per-token", "196608")
    told = json.loads(printed(capsys, trace, *sizes, "--model", "my-14b", "--gpus-per-engine", "2", "--json"))
    assert (told["model"], told["gpus"], told["workers"]) == ("my-14b", 8, 4)
    assert told["gpu_model_measured"] is False


def test_a_table_for_people(capsys: pytest.CaptureFixture[str], trace: Path) -> None:
    table = printed(capsys, trace, "--policy", "energy", "--policy", "least-loaded", "--flex-share", "0.5")
    assert "energy spends" in table
    assert "flex deadlines missed" in table


def test_a_trace_of_which_nothing_fits_any_engine_is_told_as_such(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,10000000,1\n")
    told = json.loads(printed(capsys, trace, "--gpus", "2", "--json"))
    assert (told["requests_by_outcome"], told["timeline"]) == ({"too_long": 1}, [])


def test_a_fleet_is_sized_for_the_peak_and_more(capsys: pytest.CaptureFixture[str], trace: Path) -> None:
    told = json.loads(printed(capsys, trace, "--size-fleet", "round-robin", "--size-headroom", "1.25", "--json"))
    assert told["sizing"] == {"policy": "round-robin", "headroom": 1.25, "workers": 1, "gpus": 1}
    assert told["gpus"] == 1


def test_a_plot_is_written_in_the_format_of_its_suffix(
    capsys: pytest.CaptureFixture[str], trace: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra `bench`")
    file = tmp_path / "plot.png"
    printed(capsys, trace, "--compare", "round-robin", "--plot", str(file))
    assert file.read_bytes().startswith(b"\x89PNG")


def test_a_plot_that_cannot_be_written_fails_after_the_figures(
    capsys: pytest.CaptureFixture[str], trace: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra `bench`")
    for file in (tmp_path / "no" / "plot.png", tmp_path / "plot.xyz"):
        with pytest.raises(SystemExit) as ended:
            main(["--trace", str(trace), "--plot", str(file)])
        out, err = capsys.readouterr()
        assert ended.value.code == 1
        assert "joules per output token" in out
        (line,) = err.splitlines()
        assert line.startswith(f"wattline: error: --plot {file}: ")
