"""An engine that batches like vLLM's, counters that fail like real ones, and the meter that watches both.

Virtual time. The engine spends a known power in every step, so that a test can say what each sequence really cost.
"""

from dataclasses import dataclass, field

from metering.block import RequestEnergy
from metering.cost_window import CostWindow
from metering.counter import CounterInfo, EnergyReading
from metering.fault import CounterFault
from metering.meter import EnergyMeter
from metering.step import EndedSequence, EngineStep
from metering.step_cost import StepCostModel
from metering.track import CounterTrack

SAMPLING_SECONDS = 0.05
IMPLAUSIBLE_WATTS = 20_000


class PhysicalCounter:
    """A board's energy, shown in a register that refreshes only so often and can be made to misbehave."""

    def __init__(self, component: str, update_period_seconds: float) -> None:
        self.track = CounterTrack(
            CounterInfo(
                f"{component}:0",
                component,
                "replay",
                measured=False,
                update_period_seconds=update_period_seconds or 0.001,
                uncertainty_ratio=None,
                description="simulated",
            )
        )
        self.stalled = False
        self.lost = False
        self.believed_microjoules = 0  # the rises between readings that no fault lies between
        self._period_seconds = update_period_seconds
        self._register = self._energy = 7_000_000_000
        self._refreshed_at_seconds = 0.0
        self._shown: int | None = None
        self._changed_at_seconds = 0.0
        self._slept_seconds = 0.0
        self._sampled_at_seconds = -1.0

    def spend(self, microjoules: int) -> None:
        self._energy += microjoules

    def reset(self) -> None:
        self._energy = self._register = 0

    def leap(self) -> None:
        self._energy += 10**15
        self._register += 10**15

    def interrupt(self, fault: CounterFault, slept_seconds: float) -> None:
        """Nobody reads it for a while; where the machine slept, the board went on drawing a little."""
        self._energy += round(slept_seconds * 10e6)
        self._slept_seconds += slept_seconds
        self.track.interrupt(fault, slept_seconds)

    def sample(self, now_seconds: float) -> None:
        if now_seconds <= self._sampled_at_seconds or self.lost:
            return
        self._sampled_at_seconds = now_seconds
        if not self.stalled and now_seconds - self._refreshed_at_seconds >= self._period_seconds:
            self._register, self._refreshed_at_seconds = self._energy, now_seconds
        if self._shown is not None:
            rise = self._register - self._shown
            elapsed = max(0.05, now_seconds - self._changed_at_seconds + self._slept_seconds)
            if 0 <= rise <= IMPLAUSIBLE_WATTS * 1e6 * elapsed:
                self.believed_microjoules += rise
        if self._register != self._shown:
            self._changed_at_seconds, self._slept_seconds = now_seconds, 0.0
        self._shown = self._register
        self.track.observe(EnergyReading(now_seconds, self._register))


@dataclass(eq=False)
class Sequence:
    """One sequence in the engine, and what it has really cost, in microjoules."""

    request_id: str
    prompt_tokens: int
    cached_tokens: int
    output_limit: int
    stops_by_string: bool = False
    computed_tokens: int = 0
    output_tokens: int = 0
    first_token_at_seconds: float = 0.0
    last_token_at_seconds: float = 0.0
    answered: bool = False  # told to the caller that it has ended; the engine may not know yet
    cut_off: bool = False  # its caller has left; it still takes part in the step that is running
    lost_race: bool = False  # its caller has left, but the step's output is processed before the abort
    chunks_microjoules: float = 0.0  # of its prompt, by token
    heads_microjoules: float = 0.0  # of its prompt, by head
    prefill_microjoules: float = 0.0
    decode_microjoules: float = 0.0  # until its caller was answered

    @property
    def to_compute(self) -> int:
        return self.prompt_tokens - self.cached_tokens

    @property
    def prefill_done(self) -> bool:
        return self.computed_tokens == self.to_compute

    def ended(self) -> EndedSequence:
        return EndedSequence(
            computed_prompt_tokens=self.to_compute,
            prompt_tokens=self.prompt_tokens,
            output_tokens=self.output_tokens,
            decode_seconds=self.last_token_at_seconds - self.first_token_at_seconds,
            prefill_done=self.output_tokens > 0,
        )


@dataclass(eq=False)
class Request:
    """A request and its sequences; `seen` is false for one that came past the middleware."""

    request_id: str
    sequences: list[Sequence]
    seen: bool = True
    energy: RequestEnergy | None = None


@dataclass
class MeteredEngine:
    """Continuous batching with a token budget, in virtual time, reported to the meter as vLLM reports it.

    With `exact_readings` the counters are read at both ends of every step.
    """

    counters: list[PhysicalCounter]
    token_budget: int = 16
    running_limit: int = 6
    exact_readings: bool = False
    now_seconds: float = 0.0
    waiting: list[Sequence] = field(default_factory=list)
    running: list[Sequence] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    steps: int = 0

    def __post_init__(self) -> None:
        self._sample()
        self.meter = EnergyMeter([counter.track for counter in self.counters])
        self._next_sample_at_seconds = SAMPLING_SECONDS
        self._cost = StepCostModel()
        self._window = CostWindow(self._cost)
        self._untaught: tuple[int, int, int, float, int] | None = None  # the latest step, whose energy is just known
        self._stepped_at_seconds: float | None = None  # while the engine is busy

    # -- what the world does -------------------------------------------------------------------------------------

    def arrive(self, request: Request) -> None:
        self.requests.append(request)
        if request.seen:
            self.meter.request_started(request.request_id, self.now_seconds)
        self.waiting.extend(request.sequences)

    def wait(self, seconds: float, watts: float) -> None:
        self._pass(seconds, watts)
        self.meter.advance(self.now_seconds)

    def abort(self, request: Request, *, loses_race: bool = False) -> None:
        """The caller leaves; with `loses_race` the step that is running is processed before the engine hears of it."""
        for sequence in self._live(request):
            if request.seen:
                self.meter.sequence_cut_off(request.request_id, sequence.ended())
            if sequence in self.waiting:
                self.waiting.remove(sequence)
            sequence.cut_off = True
            sequence.lost_race = loses_race and sequence.output_tokens == sequence.output_limit - 1 > 0
        self.requests.remove(request)
        if request.seen:
            self.meter.request_aborted(request.request_id, self.now_seconds)
        if not self.running and not self.waiting:
            self._fall_idle()

    def respond(self, request: Request) -> None:
        """Every sequence has ended: the caller is told what the request cost."""
        self.requests.remove(request)
        if request.seen:
            request.energy = self.meter.request_ended(request.request_id, self.now_seconds)

    def finished(self) -> list[Request]:
        return [request for request in self.requests if all(one.answered for one in request.sequences)]

    def decoding(self) -> list[Request]:
        """Requests that wait for further tokens only, of sequences that all have their first."""
        return [
            request
            for request in self.requests
            if any(not one.answered for one in request.sequences)
            and all(one.output_tokens for one in request.sequences)
        ]

    def step(self, seconds: float, watts: float) -> None:
        """One forward pass over whatever is scheduled now."""
        chunks, decoding = self._schedule()
        if not chunks and not decoding:
            return
        if self.exact_readings:
            self._sample()
        spent = self._pass(seconds, watts)
        if self.exact_readings:
            self._sample()
        self.steps += 1
        began_at_seconds = self._stepped_at_seconds or self.now_seconds - seconds
        self._stepped_at_seconds = self.now_seconds
        self._apportion(spent, max(0.0, self.now_seconds - began_at_seconds), chunks, decoding)
        self._report(seconds, chunks, decoding)

    def _fall_idle(self) -> None:
        self._untaught = self._stepped_at_seconds = None
        self._window.clear()
        self.meter.engine_idle(self.now_seconds)

    # -- inside --------------------------------------------------------------------------------------------------

    def _live(self, request: Request) -> list[Sequence]:
        queued = {id(sequence) for sequence in (*self.running, *self.waiting)}
        return [one for one in request.sequences if not one.answered and id(one) in queued]

    def _schedule(self) -> tuple[dict[Sequence, int], list[Sequence]]:
        budget = self.token_budget
        chunks: dict[Sequence, int] = {}
        decoding: list[Sequence] = []
        for sequence in self.running:
            if sequence.prefill_done:
                decoding.append(sequence)
                budget -= 1
            elif budget > 0:
                chunks[sequence] = min(budget, sequence.to_compute - sequence.computed_tokens)
                budget -= chunks[sequence]
        while self.waiting and budget > 0 and len(self.running) < self.running_limit:
            sequence = self.waiting.pop(0)
            self.running.append(sequence)
            chunks[sequence] = min(budget, sequence.to_compute)
            budget -= chunks[sequence]
        return chunks, decoding

    def _pass(self, seconds: float, watts: float) -> int:
        """Let time pass at a power shared by the counters; returns the microjoules spent on all of them."""
        ends_at = self.now_seconds + seconds
        spent = 0
        while self.now_seconds < ends_at:
            until = min(ends_at, self._next_sample_at_seconds)
            for weight, counter in enumerate(self.counters, start=1):
                microjoules = round((until - self.now_seconds) * watts * 1e6 / weight)
                counter.spend(microjoules)
                spent += microjoules
            self.now_seconds = until
            if until == self._next_sample_at_seconds:
                self._next_sample_at_seconds += SAMPLING_SECONDS
                self._sample()
        return spent

    def _sample(self) -> None:
        for counter in self.counters:
            counter.sample(self.now_seconds)

    def _apportion(self, spent: int, seconds: float, chunks: dict[Sequence, int], decoding: list[Sequence]) -> None:
        """What the step really cost each sequence, by the parts that the steps before it suggest."""
        if self._untaught is not None:
            self._window.add(*self._untaught)
        tokens, paying = sum(chunks.values()), [sequence for sequence in decoding if not sequence.answered]
        context = sum(sequence.prompt_tokens + sequence.output_tokens for sequence in paying)
        weights = self._cost.weights(tokens, len(chunks), 0, len(decoding), context)
        unit = spent / (sum(weights.as_tuple()) or 1.0)
        self._untaught = tokens, len(decoding), context, seconds, spent
        for sequence, computed in chunks.items():
            sequence.computed_tokens += computed
            sequence.chunks_microjoules += unit * weights.prefill_tokens * computed / tokens
            sequence.heads_microjoules += unit * weights.prefill_base / len(chunks)
        completed = [sequence for sequence in chunks if sequence.prefill_done]
        group = sum(sequence.to_compute for sequence in completed)
        by_token = sum(one.chunks_microjoules for one in completed)
        by_head = sum(one.heads_microjoules for one in completed)
        for sequence in completed:
            sequence.prefill_microjoules = by_token * sequence.to_compute / group + by_head / len(completed)
        for sequence in paying:
            length = (sequence.prompt_tokens + sequence.output_tokens) / (context * len(decoding) / len(paying))
            sequence.decode_microjoules += unit * (
                weights.decode_each / len(decoding) + weights.decode_context * length
            )

    def _report(self, seconds: float, chunks: dict[Sequence, int], decoding: list[Sequence]) -> None:
        now = self.now_seconds
        first, gaps, ended = [], [], []
        for sequence in (*(one for one in chunks if one.prefill_done), *decoding):
            if sequence.answered or (sequence.cut_off and not sequence.lost_race):
                continue  # the output processor no longer knows it
            if sequence.output_tokens == 0:
                first.append(sequence)
                sequence.first_token_at_seconds = now
            else:
                gaps.append(now - sequence.last_token_at_seconds)
            sequence.output_tokens += 1
            sequence.last_token_at_seconds = now
            if sequence.output_tokens == sequence.output_limit:
                ended.append(sequence)
                sequence.answered = True
        self.running = [one for one in self.running if not self._is_gone(one, ended)]
        unfinished = len(self.running) + len(self.waiting)
        self.meter.step(
            EngineStep(
                ended_at_seconds=now,
                duration_seconds=seconds,
                prefill_tokens=sum(chunks.values()),
                decode_sequences=len(decoding),
                first_tokens=len(first),
                first_token_prompt_tokens=sum(one.to_compute for one in first),
                inter_token_seconds=min(gaps) if gaps else None,
                unfinished_sequences=unfinished,
                prefill_sequences=len(chunks),
                first_token_context_tokens=sum(one.prompt_tokens for one in first),
            )
        )
        for sequence in ended:
            self.meter.sequence_ended(sequence.request_id, sequence.ended())
        if not unfinished:
            self._fall_idle()

    def _is_gone(self, sequence: Sequence, ended: list[Sequence]) -> bool:
        """A stop string is found outside the engine: the sequence is advanced once more after its end."""
        if sequence.cut_off:
            return True
        return sequence.answered and not (sequence in ended and sequence.stops_by_string)
