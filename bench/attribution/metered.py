"""Our own method: the real meter, fed what the engine reports and what the counter shows, in the order of time."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from bench.attribution.trace import Trace, TracedStep
from metering.counter import CounterInfo, EnergyReading
from metering.meter import EnergyMeter
from metering.track import CounterTrack


@dataclass(frozen=True, slots=True)
class PhaseJoules:
    """A request's energy, by what it was spent on."""

    prefill: float
    decode: float

    @property
    def joules(self) -> float:
        return self.prefill + self.decode


@dataclass(frozen=True, slots=True)
class MeterBooks:
    """What the meter told each request, and its accounts after the run, in microjoules."""

    requests: tuple[PhaseJoules, ...]
    requests_microjoules: int
    idle_microjoules: int
    loading_microjoules: int
    unattributed_microjoules: int
    in_flight_microjoules: int
    counter_microjoules: int

    @property
    def conservation_error_microjoules(self) -> int:
        """Everything booked, less the counter's own rise."""
        return (
            self.requests_microjoules
            + self.idle_microjoules
            + self.loading_microjoules
            + self.unattributed_microjoules
            + self.in_flight_microjoules
            - self.counter_microjoules
        )


class MeteredRun:
    """Replays one trace to a meter. `readings` must go on for a while after the last request, so that all settles."""

    def __init__(self, trace: Trace, readings: Sequence[EnergyReading], info: CounterInfo) -> None:
        self._trace = trace
        self._readings = deque(readings)
        self._arriving = deque(range(len(trace.requests)))
        self._told: dict[int, PhaseJoules] = {}
        self._microjoules = 0
        self._track = CounterTrack(info)
        self._track.observe(self._readings.popleft())
        self._meter = EnergyMeter([self._track])

    def run(self, ready_at_seconds: float) -> MeterBooks:
        """Feeds everything; the engine is ready at `ready_at_seconds`, before the first request."""
        self._pass(ready_at_seconds)
        self._meter.engine_ready(ready_at_seconds)
        for step in self._trace.steps:
            self._take(step)
        ends_at = self._readings[-1].at_seconds
        self._pass(ends_at)
        self._meter.advance(ends_at)
        return self._books()

    def _pass(self, until_seconds: float) -> None:
        """Readings and arrivals up to an instant."""
        while self._arriving:
            arrives_at = self._trace.requests[self._arriving[0]].arrives_at_seconds
            if arrives_at > until_seconds:
                break
            self._read(arrives_at)
            self._meter.request_started(str(self._arriving.popleft()), arrives_at)
        self._read(until_seconds)

    def _read(self, until_seconds: float) -> None:
        while self._readings and self._readings[0].at_seconds <= until_seconds:
            self._track.observe(self._readings.popleft())

    def _take(self, step: TracedStep) -> None:
        meter, ended_at = self._meter, step.report.ended_at_seconds
        for left in step.cut_off:
            self._pass(left.at_seconds)
            for sequence in left.sequences:
                meter.sequence_cut_off(str(left.request), sequence)
            meter.request_aborted(str(left.request), left.at_seconds)
        self._pass(ended_at)
        meter.step(step.report)
        for request, ended in step.ended:
            meter.sequence_ended(str(request), ended)
        for request in step.answered:
            energy = meter.request_ended(str(request), ended_at)
            self._tell(request, energy.prefill_microjoules, energy.decode_microjoules)
        if not step.report.unfinished_sequences:
            meter.engine_idle(ended_at)

    def _tell(self, request: int, prefill: int, decode: int) -> None:
        self._told[request] = PhaseJoules(prefill / 1e6, decode / 1e6)
        self._microjoules += prefill + decode

    def _books(self) -> MeterBooks:
        for energy in self._meter.recent_aborts:
            self._tell(int(energy.request_id), energy.prefill_microjoules, energy.decode_microjoules)
        ledgers = self._meter.ledgers
        return MeterBooks(
            requests=tuple(self._told[index] for index in range(len(self._trace.requests))),
            requests_microjoules=self._microjoules,
            idle_microjoules=sum(ledger.accounts["idle"] for ledger in ledgers),
            loading_microjoules=sum(ledger.accounts["loading"] for ledger in ledgers),
            unattributed_microjoules=sum(ledger.accounts["unattributed"] for ledger in ledgers),
            in_flight_microjoules=sum(ledger.in_flight for ledger in ledgers),
            counter_microjoules=self._meter.confirmed_microjoules(),
        )
