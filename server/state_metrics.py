"""The families that tell what the server is set to, what its scheduler refused and how clean the grid is."""

from collections.abc import Callable, Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from scheduler.commands import RejectCause
from scheduler.targets import LatencyTargets
from server import metric_catalogue as catalogue
from server.carbon.account import CarbonAccount
from server.decision_log import DecisionLog
from server.round_robin_account import RoundRobinAccount
from server.version import wattline_version


class SettingsCollector(Collector):
    """The build, the policy and the targets in force. They do not change while the server runs."""

    def __init__(self, policy: str, targets: LatencyTargets) -> None:
        self._policy = policy
        self._targets = targets

    def collect(self) -> Iterator[Metric]:
        build = catalogue.BUILD.gauge()
        build.add_metric((wattline_version(), self._policy), 1.0)
        ttft, tpot = catalogue.SLO_TTFT.gauge(), catalogue.SLO_TPOT.gauge()
        ttft.add_metric((), self._targets.ttft_seconds)
        tpot.add_metric((), self._targets.tpot_seconds)
        yield from (build, ttft, tpot)


class RefusalCollector(Collector):
    """Why the scheduler refused requests."""

    def __init__(self, log: DecisionLog) -> None:
        self._log = log

    def collect(self) -> Iterator[Metric]:
        refusals, counts = catalogue.REFUSALS.total(), self._log.refusals_by_cause()
        for cause in RejectCause:
            refusals.add_metric((cause.value,), counts.get(cause.value, 0))
        yield refusals


class RoundRobinCollector(Collector):
    """What round-robin is estimated to have spent."""

    def __init__(self, account: RoundRobinAccount) -> None:
        self._account = account

    def collect(self) -> Iterator[Metric]:
        energy = catalogue.ROUND_ROBIN_ENERGY.total()
        for model, joules in self._account.totals():
            energy.add_metric((model,), joules)
        yield energy


class GridCollector(Collector):
    """The grid's carbon intensity. `clock` gives Unix seconds."""

    def __init__(self, carbon: CarbonAccount, clock: Callable[[], float]) -> None:
        self._carbon = carbon
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        intensity, age = catalogue.GRID_CARBON.gauge(), catalogue.GRID_CARBON_AGE.gauge()
        now = self._carbon.grid_at(self._clock())
        if now.gco2_per_kwh is not None:
            intensity.add_metric((now.source,), now.gco2_per_kwh)
        if now.age_seconds is not None:
            age.add_metric((), now.age_seconds)
        yield from (intensity, age)
