"""One simulated engine: continuous batching with chunked prefill as vLLM V1 does it, and what its device spends.

Each pass takes every decoding sequence and fills what is left of the token budget with chunks of prompts in order of
arrival. Passes over an unchanging batch are one `StepRun`. It knows no scheduler: whoever drives it submits sequences
and calls `advance` at `next_event_at_seconds`.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from heapq import heappop, heappush

from bench.simulation.energy_books import Account, EnergyBooks
from bench.simulation.engine_model import EngineModel
from bench.simulation.errors import SimulationError
from bench.simulation.step_run import StepRun, decode_run
from scheduler.events import WorkReport

# A chord over more passes than these would stray from a curved model.
_LONGEST_RUN_STEPS = 256


class EngineState(Enum):
    """Whether the engine's process runs."""

    AWAKE = "awake"
    PARKED = "parked"
    STARTING = "starting"


@dataclass(eq=False, slots=True)
class Sequence:
    """A request in an engine, and when its tokens came. `output_tokens` is at least 1."""

    number: int
    prompt_tokens: int
    output_tokens: int
    prefilled_tokens: int = 0
    first_token_at_seconds: float | None = None
    ended_at_seconds: float | None = None

    @property
    def final_tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens


@dataclass(slots=True)
class _Totals:
    """What the engine's process has done since it started."""

    steps: int = 0
    step_seconds: float = 0.0
    decode_tokens: int = 0
    prefill_tokens: int = 0


@dataclass(slots=True)
class _Batch:
    """The sequences in the engine. `ending` is a heap of (pass in which it ends, number, sequence)."""

    passes: int = 0
    context_tokens: int = 0
    reserved_tokens: int = 0
    ending: list[tuple[int, int, Sequence]] = field(default_factory=list)
    prefilling: deque[Sequence] = field(default_factory=deque)
    waiting: deque[Sequence] = field(default_factory=deque)

    @property
    def running(self) -> int:
        return len(self.ending) + len(self.prefilling)


class Engine:
    """Runs sequences to their ends in virtual time.

    A sequence is admitted once its whole context, prompt and output, fits beside those of the others: nothing is ever
    preempted, at the price of a batch a little smaller than vLLM's where the KV cache is the bound.
    """

    def __init__(self, model: EngineModel) -> None:
        self.model = model
        self.books = EnergyBooks()
        self.plan_number = 0
        self._awake_seconds = 0.0
        self._batch = _Batch()
        self._run: StepRun | None = None
        self._chunks: list[tuple[Sequence, int]] = []
        self._state = EngineState.AWAKE
        self._ready_at_seconds = 0.0
        self._settled_at_seconds = 0.0
        self._totals = _Totals()
        # As if it had been loaded just before time zero; nobody is billed for that here.
        self._loading_joules = model.start_seconds * model.start_watts
        self._joules_before_start = -self._loading_joules

    # -- what it says of itself ----------------------------------------------------------------------------------

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def running_requests(self) -> int:
        return self._batch.running

    @property
    def waiting_requests(self) -> int:
        return len(self._batch.waiting)

    @property
    def next_event_at_seconds(self) -> float | None:
        """When `advance` is due; valid until `plan_number` changes. None while nothing is going on."""
        if self._state is EngineState.STARTING:
            return self._ready_at_seconds
        return None if self._run is None else self._run.ends_at_seconds

    def joules_at(self, now_seconds: float) -> float:
        """All energy up to now; between two events, too."""
        joules = self.books.microjoules / 1e6
        if self._run is not None:
            return joules + self._run.joules_at(now_seconds)
        return joules + self._quiet_watts() * (now_seconds - self._settled_at_seconds)

    def awake_seconds_at(self, now_seconds: float) -> float:
        """How long the process has run up to now, starting included."""
        is_parked = self._state is EngineState.PARKED
        return self._awake_seconds + (0.0 if is_parked else now_seconds - self._settled_at_seconds)

    def work_at(self, now_seconds: float) -> WorkReport:
        """What a meter in the engine would tell at this instant, passes in progress not included."""
        totals, run = self._totals, self._run
        done = 0 if run is None else run.steps_done(now_seconds)
        return WorkReport(
            steps=totals.steps + done,
            step_seconds=totals.step_seconds + (run.seconds_of(done) if run is not None else 0.0),
            decode_tokens=totals.decode_tokens + (run.decoding * done if run is not None else 0),
            prefill_tokens=totals.prefill_tokens + (run.prefill_tokens * done if run is not None else 0),
            energy_joules=self.joules_at(now_seconds) - self._joules_before_start,
            loading_joules=self._loading_joules,
            kv_cache_usage_ratio=min(1.0, self._batch.reserved_tokens / self.model.kv_capacity_tokens),
        )

    def fits(self, sequence: Sequence) -> bool:
        """Whether the engine could ever run it."""
        return sequence.final_tokens <= self.model.kv_capacity_tokens

    # -- what is done to it --------------------------------------------------------------------------------------

    def submit(self, sequence: Sequence, now_seconds: float) -> None:
        """Take a sequence in; a pass in progress ends first.

        Raises:
            SimulationError: the engine is not awake, or could never run the sequence.
        """
        if self._state is not EngineState.AWAKE or not self.fits(sequence):
            raise SimulationError(f"sequence {sequence.number} was sent to an engine that is {self._state.value}")
        batch = self._batch
        was_blocked = bool(batch.waiting)
        batch.waiting.append(sequence)
        if self._run is None:
            self._plan(now_seconds)
        elif (
            not was_blocked
            and batch.running < self.model.max_sequences
            and self._run.end_after_step_in_progress(now_seconds)
        ):
            self.plan_number += 1

    def park(self, now_seconds: float) -> None:
        """Stop the process.

        Raises:
            SimulationError: it is not awake, or has work.
        """
        if self._state is not EngineState.AWAKE or self._run is not None:
            raise SimulationError(f"park of an engine that is {self._state.value} with {self.running_requests} running")
        self.settle(now_seconds)
        self._state = EngineState.PARKED

    def start(self, now_seconds: float) -> None:
        """Start the process; `advance` is due when it is ready.

        Raises:
            SimulationError: it is not parked.
        """
        if self._state is not EngineState.PARKED:
            raise SimulationError(f"start of an engine that is {self._state.value}")
        self.settle(now_seconds)
        self._state = EngineState.STARTING
        self._ready_at_seconds = now_seconds + self.model.start_seconds
        self._totals = _Totals()
        self._joules_before_start = self.books.microjoules / 1e6
        self.plan_number += 1

    def settle(self, now_seconds: float) -> None:
        """Book what was spent since the last event; not inside a run."""
        elapsed_seconds = now_seconds - self._settled_at_seconds
        if elapsed_seconds > 0:
            self.books.post(self._quiet_account(), self._quiet_watts() * elapsed_seconds)
            if self._state is not EngineState.PARKED:
                self._awake_seconds += elapsed_seconds
        self._settled_at_seconds = now_seconds

    def advance(self) -> list[Sequence]:
        """What is due at `next_event_at_seconds` happens; the sequences that ended with it."""
        if self._state is EngineState.STARTING:
            self.settle(self._ready_at_seconds)
            self._loading_joules = self.books.microjoules / 1e6 - self._joules_before_start
            self._state = EngineState.AWAKE
            return []
        run = self._run
        if run is None:
            raise SimulationError("an engine without work was told to go on")
        now_seconds = run.ends_at_seconds
        self._book(run, now_seconds)
        ended = self._end_decoding(run, now_seconds)
        ended += self._end_prefills(now_seconds)
        self._plan(now_seconds)
        return ended

    # -- passes --------------------------------------------------------------------------------------------------

    def _book(self, run: StepRun, now_seconds: float) -> None:
        self.books.post(Account.ACTIVE, run.joules_of(run.steps))
        seconds = run.seconds_of(run.steps)
        self._awake_seconds += seconds
        self._settled_at_seconds = now_seconds
        totals = self._totals
        totals.steps += run.steps
        totals.step_seconds += seconds
        totals.decode_tokens += run.decoding * run.steps
        totals.prefill_tokens += run.prefill_tokens * run.steps

    def _end_decoding(self, run: StepRun, now_seconds: float) -> list[Sequence]:
        batch = self._batch
        batch.passes += run.steps
        batch.context_tokens += run.steps * run.decoding
        ended = []
        while batch.ending and batch.ending[0][0] <= batch.passes:
            sequence = heappop(batch.ending)[2]
            # In its last pass it attended to all but the token that the pass gave; the pass added that one.
            batch.context_tokens -= sequence.final_tokens
            ended.append(self._ended(sequence, now_seconds))
        return ended

    def _end_prefills(self, now_seconds: float) -> list[Sequence]:
        batch = self._batch
        ended = []
        for sequence, tokens in self._chunks:
            sequence.prefilled_tokens += tokens
            if sequence.prefilled_tokens < sequence.prompt_tokens:
                continue
            batch.prefilling.popleft()  # prompts are computed in order, so it is the first
            sequence.first_token_at_seconds = now_seconds
            if sequence.output_tokens == 1:
                ended.append(self._ended(sequence, now_seconds))
                continue
            ends_in_pass = batch.passes + sequence.output_tokens - 1
            heappush(batch.ending, (ends_in_pass, sequence.number, sequence))
            batch.context_tokens += sequence.prompt_tokens + 1
        self._chunks = []
        return ended

    def _ended(self, sequence: Sequence, now_seconds: float) -> Sequence:
        sequence.ended_at_seconds = now_seconds
        self._batch.reserved_tokens -= sequence.final_tokens
        return sequence

    def _plan(self, now_seconds: float) -> None:
        """Decide on the next passes, if there is anything to compute."""
        self.plan_number += 1
        batch = self._batch
        if batch.waiting:
            self._admit()
        if not batch.ending and not batch.prefilling:
            self._run = None
            return
        if self._run is None:
            self.settle(now_seconds)
        if batch.prefilling and self._cut_chunks():
            self._run = self._mixed_pass(now_seconds)
            return
        steps = min(batch.ending[0][0] - batch.passes, _LONGEST_RUN_STEPS)
        self._run = decode_run(self.model, now_seconds, steps, len(batch.ending), batch.context_tokens)

    def _admit(self) -> None:
        batch, model = self._batch, self.model
        while batch.waiting and batch.running < model.max_sequences:
            needed_tokens = batch.waiting[0].final_tokens
            if batch.reserved_tokens + needed_tokens > model.kv_capacity_tokens:
                break
            batch.reserved_tokens += needed_tokens
            batch.prefilling.append(batch.waiting.popleft())

    def _cut_chunks(self) -> bool:
        """Fill what decoding leaves of the pass's tokens with prompts; whether any fits."""
        budget = self.model.max_batched_tokens - len(self._batch.ending)
        for sequence in self._batch.prefilling:
            if budget <= 0:
                break
            tokens = min(budget, sequence.prompt_tokens - sequence.prefilled_tokens)
            self._chunks.append((sequence, tokens))
            budget -= tokens
        return bool(self._chunks)

    def _mixed_pass(self, now_seconds: float) -> StepRun:
        batch, model = self._batch, self.model
        tokens = sum(count for _, count in self._chunks)
        # A chunk's tokens attend to what is computed already and, on the mean, to half of the chunk.
        pairs = sum(count * (sequence.prefilled_tokens + (count + 1) / 2) for sequence, count in self._chunks)
        work = (len(batch.ending), batch.context_tokens, tokens, pairs)
        seconds = model.step_seconds(*work)
        joules = seconds * model.step_watts(*work)
        return StepRun(now_seconds, 1, len(batch.ending), tokens, seconds, 0.0, joules, 0.0)

    def _quiet_account(self) -> Account:
        match self._state:
            case EngineState.AWAKE:
                return Account.IDLE
            case EngineState.STARTING:
                return Account.LOADING
            case EngineState.PARKED:
                return Account.PARKED

    def _quiet_watts(self) -> float:
        match self._state:
            case EngineState.AWAKE:
                return self.model.idle_watts
            case EngineState.STARTING:
                return self.model.start_watts
            case EngineState.PARKED:
                return self.model.parked_watts
