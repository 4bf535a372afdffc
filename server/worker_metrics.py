"""The families that are states and totals of the workers: read from the roster at scrape time."""

from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from metering.counter import MICROJOULES_PER_JOULE
from server import metric_catalogue as catalogue
from server.roster import Member, Roster
from workers.loss import WorkerLoss
from workers.supervisor import WorkerState

_UNKNOWN_SOURCE = "unknown"


class WorkerCollector(Collector):
    """What each worker has spent and done, and how it is."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    def collect(self) -> Iterator[Metric]:
        members = list(self._roster.members())
        yield from _energy(members)
        yield from _state(members)
        yield from _work(members)


def _energy(members: list[Member]) -> Iterator[Metric]:
    energy, in_flight = catalogue.ENERGY.total(), catalogue.IN_FLIGHT_ENERGY.gauge()
    faults, power, measured = catalogue.COUNTER_FAULTS.total(), catalogue.POWER.gauge(), catalogue.MEASURED.gauge()
    for member in members:
        worker, report = member.worker_id, member.energy
        for (component, account), microjoules in report.totals():
            energy.add_metric((worker, report.model, component, account), microjoules / MICROJOULES_PER_JOULE)
        for component, microjoules in report.in_flight.items():
            in_flight.add_metric((worker, report.model, component), microjoules / MICROJOULES_PER_JOULE)
        for (counter, fault), count in report.counter_faults.items():
            faults.add_metric((worker, counter, fault), count)
        for component, watts in report.power_watts.items():
            if watts is not None:
                power.add_metric((worker, component), watts)
        measured.add_metric((worker, report.source or _UNKNOWN_SOURCE), float(report.measured))
    yield from (energy, in_flight, faults, power, measured)


def _state(members: list[Member]) -> Iterator[Metric]:
    running, waiting = catalogue.RUNNING.gauge(), catalogue.WAITING.gauge()
    state, restarts, losses = catalogue.STATE.gauge(), catalogue.RESTARTS.total(), catalogue.LOSSES.total()
    for member in members:
        worker, supervisor = member.worker_id, member.supervisor
        running.add_metric((worker,), member.energy.running_requests)
        waiting.add_metric((worker,), member.energy.waiting_requests)
        restarts.add_metric((worker,), supervisor.restarts)
        for name in WorkerState:
            state.add_metric((worker, name.value), float(supervisor.state is name))
        for loss in WorkerLoss:  # those that never happened too: a series that starts at 1 hides its first rise
            losses.add_metric((worker, loss.value), supervisor.losses[loss])
    yield from (running, waiting, state, restarts, losses)


def _work(members: list[Member]) -> Iterator[Metric]:
    steps, step_seconds = catalogue.STEPS.total(), catalogue.STEP_SECONDS.total()
    decode_tokens, prefill_tokens = catalogue.DECODE_TOKENS.total(), catalogue.PREFILL_TOKENS.total()
    kv_cache = catalogue.KV_CACHE.gauge()
    for member in members:
        labels, work = (member.worker_id,), member.energy.work
        done = member.energy.work_done()
        if done is not None:
            steps.add_metric(labels, done.steps)
            step_seconds.add_metric(labels, done.step_seconds)
            decode_tokens.add_metric(labels, done.decode_tokens)
            prefill_tokens.add_metric(labels, done.prefill_tokens)
        if work is not None and work.kv_cache_usage_ratio is not None:
            kv_cache.add_metric(labels, work.kv_cache_usage_ratio)
    yield from (steps, step_seconds, decode_tokens, prefill_tokens, kv_cache)
