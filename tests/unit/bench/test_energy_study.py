"""A disturbed run is made again, and which attempt counts depends on the disturbance alone."""

from collections.abc import Callable
from dataclasses import replace

from bench.energy.figures import RunFigures
from bench.energy.quiet import wait_for_quiet
from bench.energy.study import until_undisturbed
from tests.unit.bench.energy_runs import figures


def attempts_with(*other_cores: float) -> Callable[[], RunFigures]:
    runs = iter([replace(figures(), other_cores=cores) for cores in other_cores])
    return lambda: next(runs)


def test_an_undisturbed_run_is_made_once() -> None:
    (counted,) = until_undisturbed(attempts_with(0.1, 0.0), 0.4, repeats=2)
    assert counted.other_cores == 0.1


def test_a_disturbed_run_is_made_again_until_one_is_not() -> None:
    made = until_undisturbed(attempts_with(0.9, 0.2, 0.0), 0.4, repeats=2)
    assert [run.other_cores for run in made] == [0.9, 0.2]


def test_where_all_are_disturbed_the_least_disturbed_counts() -> None:
    made = until_undisturbed(attempts_with(0.9, 0.5, 0.7), 0.4, repeats=2)
    assert made[-1].other_cores == 0.5
    assert len(made) == 3


def test_a_quiet_machine_is_not_waited_for_and_a_busy_one_not_for_ever() -> None:
    assert wait_for_quiet(most_cores=1e9, limit_seconds=60, look_seconds=0.01)
    assert not wait_for_quiet(most_cores=-1.0, limit_seconds=0, look_seconds=0.01)
