"""The few shapes of PromQL that the panels are made of; every selector names the dashboard's job.

Rates are over `$__rate_interval`, which Grafana keeps at four scrapes or more; totals are over the range shown.
"""

from dataclasses import dataclass
from typing import Final

JOB: Final = 'job=~"$job"'
MODEL: Final = 'model=~"$model"'
_OTHER_MODELS: Final = 'model!~"$model"'
TENANT: Final = 'tenant=~"$tenant"'
# Two servers may both have a worker-0: only with its instance is a worker one.
WORKER: Final = ("job", "instance", "worker")


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, and what its series are called; in a table, what its column is called and the column's unit."""

    expression: str
    legend: str = ""
    unit: str | None = None


def series(name: str, *matchers: str) -> str:
    """The series of a metric that the dashboard's variables choose."""
    return f"{name}{{{', '.join((JOB, *matchers))}}}"


def rate(name: str, *matchers: str) -> str:
    """Of a counter, per second."""
    return f"rate({series(name, *matchers)}[$__rate_interval])"


def increase(name: str, *matchers: str) -> str:
    """Of a counter, over the whole range shown."""
    return f"increase({series(name, *matchers)}[$__range])"


def recent(name: str, *matchers: str) -> str:
    """Of a counter, how much it grew in the rate interval: for what happens seldom, where a rate says little."""
    return f"increase({series(name, *matchers)}[$__rate_interval])"


def total(expression: str, *by: str) -> str:
    """The sum, over everything or for each combination of these labels."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def ratio(part: str, whole: str, *by: str) -> str:
    """One sum over another, for each combination of these labels; nothing, not infinity, over nothing.

    Each is an expression of series.
    """
    return f"{total(part, *by)} / ({total(whole, *by)} > 0)"


def quantile(share: float, histogram: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """A quantile of a histogram's observations in the rate interval."""
    return f"histogram_quantile({share}, {total(rate(f'{histogram}_bucket', *matchers), 'le', *by)})"


def quantiles(histogram: str, *matchers: str) -> tuple[Query, ...]:
    """The quantiles that a latency or a cost is judged by."""
    return tuple(Query(quantile(share, histogram, *matchers), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99))


def of_models(expression: str) -> str:
    """Of series by worker, those whose worker is not known to serve another model than the chosen ones.

    Only energy names a worker's model, and a worker that nobody meters has none: it must not vanish from the workers,
    least of all from those that are not measured.
    """
    return f"({expression} unless on ({', '.join(WORKER)}) {series('wattline_energy_joules_total', _OTHER_MODELS)})"


def or_zero(expression: str) -> str:
    """Nothing has happened yet is 0 as long as there is a server to say so, and no data otherwise."""
    return f"{expression} or on () 0 * sum({series('wattline_build_info')})"
