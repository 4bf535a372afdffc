"""The report's figures are those of the runs, and wrong arguments are told in one line."""

import json

import pytest

from bench.energy.command import main
from bench.energy.report import format_study
from bench.energy.study import StudyResult, StudySettings
from tests.unit.bench.energy_runs import figures


def study() -> StudyResult:
    """Round-robin took 0.2, 0.3 and 0.4 CPU-seconds a token, energy 0.1 each time; the second round in reverse."""
    return StudyResult(
        StudySettings(),
        (
            figures("round-robin", 1, 22.0, 41.5),
            figures("energy", 1, 11.0, 30.5),
            figures("energy", 2, 11.0, 30.5),
            figures("round-robin", 2, 33.0, 41.5),
            figures("round-robin", 3, 44.0, 41.5),
            figures("energy", 3, 11.0, 30.5),
        ),
    )


def test_the_ratio_is_of_the_medians_over_the_rounds() -> None:
    assert study().ratio("energy", "round-robin", "cpu_seconds_per_token") == pytest.approx(1 / 3)
    assert study().ratio("energy", "round-robin", "joules_per_token") == pytest.approx(33 / 44)


def test_each_round_has_a_ratio_of_its_own() -> None:
    by_round = study().round_ratios("energy", "round-robin", "cpu_seconds_per_token")
    assert by_round == pytest.approx((1 / 2, 1 / 3, 1 / 4))


def test_the_table_has_every_run_each_median_and_what_is_saved() -> None:
    text = format_study(study())
    for line in ("round-robin 2", "energy 3", "round-robin median", "energy median"):
        assert line in text
    assert "CPU-seconds per output token, medians: 0.333 (67% fewer); by round: 0.500, 0.333, 0.250" in text
    assert "joules per output token, medians: 0.750 (25% fewer)" in text
    assert "a: 4 fills, 1 opens; b: 1 spills" in text
    assert "b park 1" in text


def test_the_object_for_programs_holds_every_run_and_what_follows() -> None:
    told = json.loads(json.dumps(study().as_json()))
    assert [run["policy"] for run in told["runs"]][:3] == ["round-robin", "energy", "energy"]
    assert told["medians"]["energy"]["cpu_seconds_per_token"] == pytest.approx(0.1)
    ratios = told["ratios_to_round-robin"]["energy"]["cpu_seconds_per_token"]
    assert ratios["of_medians"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--policies", "energy,fastest"], "--policies: 'fastest' is none of energy, least-loaded, round-robin"),
        (["--rounds", "0"], "--rounds is 0, expected at least 1"),
        (["--requests", "0"], "--requests is 0, expected at least 1"),
        (["--max-tokens", "-1"], "--max-tokens is -1, expected at least 1"),
        (["--rate", "nan"], "--rate is nan, expected a finite number above 0"),
        (["--slo-ttft-seconds", "0"], "--slo-ttft-seconds is 0.0, expected a finite number above 0"),
        (["--repeats", "-1"], "--repeats is -1, expected at least 0"),
        (["--most-other-cores", "inf"], "--most-other-cores is inf, expected a finite number above 0"),
        (["--workers", "0"], "--workers is 0, expected 1 to 64"),
        (["--min-workers", "3"], "--min-workers is 3, expected 0 to the number of workers, 2"),
        (["--seed", "one"], "argument --seed: invalid int value: 'one'"),
        (["--fast"], "unrecognized arguments: --fast"),
        (["--meter", "sundial"], "--meter"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert (ended.value.code, out) == (2, "")
    assert line.startswith("wattline: error: ")
    assert complaint in line


def test_a_run_beside_which_too_much_else_ran_is_called_disturbed() -> None:
    settings = StudySettings(policies=("energy",), rounds=1, most_other_cores=0.2)
    text = format_study(StudyResult(settings, (figures(),), (figures(),)))
    (line,) = [line for line in text.splitlines() if line.startswith("energy 1 ")]
    assert line.endswith("0.30 disturbed")
    assert "1 disturbed runs were made again" in text
    assert "disturbed" not in format_study(study())
