"""Percentiles, attainment and costs per token say what was seen, and what failed is counted as missed."""

import pytest

from bench.energy.figures import figures_of, median_of
from bench.energy.scrape import Scrape, risen
from tests.unit.bench.energy_runs import FAILED, TARGETS, answer, figures, measurement


def test_costs_are_per_output_token() -> None:
    run = figures(engine_seconds=11.0, decode_joules=30.0)
    assert run.output_tokens == 110
    assert run.cpu_seconds_per_token == pytest.approx(0.1)
    assert run.joules_per_token == pytest.approx(32.5 / 110)


def test_joules_are_by_how_much_the_accounts_and_what_is_in_flight_have_risen() -> None:
    run = figures()
    assert run.energy_joules == pytest.approx(30 + 2 + 0.5)
    assert run.account_joules == {"decode": 30.0, "idle": 2.0}
    assert run.request_joules == pytest.approx(20.0)


def test_percentiles_are_of_the_nearest_rank() -> None:
    answers = tuple(answer(first_token_seconds=number / 100, seconds_per_token=number / 1000) for number in range(100))
    run = figures_of("energy", 1, measurement(answers), TARGETS)
    assert (run.ttft_p50_seconds, run.ttft_p99_seconds) == (0.49, 0.98)
    assert run.tpot_p50_seconds == pytest.approx(0.049)
    assert run.tpot_p99_seconds == pytest.approx(0.098)


def test_attainment_is_the_share_of_all_requests_that_met_the_target() -> None:
    seen = measurement((answer(1.0, 0.1), answer(1.1, 0.05), answer(0.5, 0.2), FAILED))
    run = figures_of("energy", 1, seen, TARGETS)
    assert run.ttft_attainment_ratio == 0.5
    assert run.tpot_attainment_ratio == 0.5
    assert (run.failed_requests, run.first_error) == (1, "status 503: no worker")


def test_an_answer_of_one_token_cannot_miss_the_target_between_tokens() -> None:
    run = figures_of("energy", 1, measurement((answer(output_tokens=1), answer())), TARGETS)
    assert run.tpot_attainment_ratio == 1.0


def test_a_run_in_which_all_failed_has_no_latencies_and_no_costs_per_token() -> None:
    run = figures_of("energy", 1, measurement((FAILED, FAILED)), TARGETS)
    assert (run.output_tokens, run.cpu_seconds_per_token, run.joules_per_token) == (0, None, None)
    assert (run.ttft_p99_seconds, run.tpot_p99_seconds, run.ttft_attainment_ratio) == (None, None, 0.0)


def test_running_sequences_are_means_over_the_samples_and_a_worker_that_is_gone_runs_none() -> None:
    assert figures().running_requests == {"a": 2.5, "b": 0.0}


def test_requests_in_flight_are_the_time_spent_in_them_over_the_window() -> None:
    assert figures().in_flight_requests == pytest.approx(10 * 1.0 / 10)


def test_dispatches_and_commands_are_those_of_the_window() -> None:
    run = figures()
    assert run.dispatches == {"a": {"fills": 4, "opens": 1}, "b": {"spills": 1}}
    assert run.worker_commands == {"b": {"park": 1}}


def test_other_cores_are_what_neither_the_engines_nor_the_front_end_kept_busy() -> None:
    assert figures().other_cores == pytest.approx(0.3)


def test_a_median_over_rounds_of_which_one_has_no_figure_is_none() -> None:
    assert median_of([3.0, 1.0, 2.0]) == 2.0
    assert median_of([3.0, None, 2.0]) is None
    assert median_of([]) is None


def test_a_metrics_page_is_summed_over_workers_and_components() -> None:
    page = (
        "# TYPE wattline_energy_joules counter\n"
        'wattline_energy_joules_total{account="decode",component="cpu",model="m",worker="a"} 1.5\n'
        'wattline_energy_joules_total{account="decode",component="gpu",model="m",worker="a"} 2.0\n'
        'wattline_energy_joules_total{account="idle",component="cpu",model="m",worker="b"} 4.0\n'
        "# TYPE wattline_energy_in_flight_joules gauge\n"
        'wattline_energy_in_flight_joules{component="cpu",model="m",worker="a"} 0.25\n'
        "# TYPE wattline_worker_running_requests gauge\n"
        'wattline_worker_running_requests{worker="a"} 3.0\n'
        "# TYPE wattline_dispatches counter\n"
        'wattline_dispatches_total{reason="fills",worker="a"} 7.0\n'
    )
    scrape = Scrape.of_page(page)
    assert scrape.account_joules == {"decode": 3.5, "idle": 4.0}
    assert scrape.energy_joules == 7.75
    assert scrape.running_requests == {"a": 3.0}
    assert scrape.dispatches == {("a", "fills"): 7.0}
    assert scrape.worker_commands == {}


def test_totals_that_have_not_risen_are_left_out() -> None:
    assert risen({"a": 3.0, "b": 2.0, "c": 1.0}, {"a": 1.0, "b": 2.0}) == {"a": 2.0, "c": 1.0}
