"""Keeps the energy caps of requests in flight: looks at what they have cost after each step, and ends them in time.

A request that must end is stopped in the engine at once, but told to have ended only when the steps that were already
under way are booked: its answer then tells all it cost, and comes no later than its next token would have.
Runs on the server's event loop, like the meter.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from metering.energy_cap import EnergyCap, cap_fields
from metering.meter import EnergyMeter
from metering.step import EndedSequence
from metering.vllm_plugin.early_end import EngineSequences

logger = logging.getLogger("wattline.metering")

# A step under way is over, and reported, in about the time of the one before it. An engine that was told to stop its
# last sequence before it began another step reports nothing more.
_SILENT_INTERVALS: Final = 4
_LEAST_SILENCE_SECONDS: Final = 0.25
_MOST_SILENCE_SECONDS: Final = 5.0
# With other requests in the engine a step may take long, but it comes.
_BUSY_PATIENCE: Final = 8


class Books(Protocol):
    """Where the caps find the meter, and whose sequences are whose."""

    @property
    def meter(self) -> EnergyMeter | None: ...

    def owner_of(self, engine_request_id: str) -> str: ...


@dataclass(slots=True)
class _Live:
    """A sequence of a capped request. `first_row` and `engine` are known once it has its first token."""

    first_row: int | None = None
    engine: int = 0
    output_tokens: int = 0


@dataclass(slots=True)
class _Capped:
    """A capped request. It must end from `is_over` on; `is_reached` says that some of it did before its own end."""

    cap: EnergyCap
    sequences: EngineSequences
    engine_name: str | None
    live: dict[str, _Live] = field(default_factory=dict)
    ending: dict[int, int] = field(default_factory=dict)  # by engine: the steps that are still to come
    is_over: bool = False
    is_reached: bool = False
    why_not_kept: str | None = None


class EnergyCaps:
    """The capped requests of one server. Costs nothing while there are none."""

    def __init__(
        self,
        books: Books,
        *,
        clock: Callable[[], float] = time.monotonic,
        call_later: Callable[[float, Callable[[], None]], Any] | None = None,
    ) -> None:
        self._books = books
        self._clock = clock
        self._call_later = call_later or (lambda seconds, call: asyncio.get_running_loop().call_later(seconds, call))
        self.steps_under_way = 1  # when a step is reported; two where vLLM schedules ahead
        self._capped: dict[str, _Capped] = {}
        self._engine_names: dict[str, str] = {}
        self._sequences: EngineSequences | None = None
        self._reported_at_seconds: dict[int, float] = {}
        self._interval_seconds: dict[int, float] = {}

    # -- requests ------------------------------------------------------------------------------------------------

    def begin(self, request_id: str, max_joules: float, app: Any, engine_name: str | None = None) -> None:  # noqa: ANN401
        """Cap a request that is about to reach the engine behind vLLM's `app`, perhaps by a name of its own."""
        if self._sequences is None or not self._sequences.is_of(app):
            self._sequences = EngineSequences(app)
        request = _Capped(EnergyCap(max_joules), self._sequences, engine_name)
        request.why_not_kept = self._sequences.why_unfit()
        self._capped[request_id] = request
        if engine_name is not None:
            self._engine_names[engine_name] = request_id

    def end(self, request_id: str, unknown_reason: str | None = None) -> dict[str, Any]:
        """Forget a request that has ended, however it did; returns what its energy block says of its cap.

        `unknown_reason` is why its energy is not known, if so: then nobody can say that it stayed under its cap.
        """
        request = self._capped.pop(request_id, None)
        if request is None:
            return {}
        self._engine_names.pop(request.engine_name or "", None)
        why_not_kept = request.why_not_kept or unknown_reason
        return cap_fields(request.cap.max_joules, reached=request.is_reached, not_kept_reason=why_not_kept)

    # -- steps ---------------------------------------------------------------------------------------------------

    def steps_to_come(self, engine: int) -> int:
        """How many steps are under way in an engine, perhaps its last, that a request which is ending pays for."""
        return max((request.ending.get(engine, 0) for request in self._capped.values()), default=0)

    def before_step(self, engine: int, silent_sequences: int | None) -> None:
        """A step is about to be booked in which so many sequences decoded of which vLLM gave out no token.

        Where there are none, those that are ending have left the engine before it: they do not pay for it. None where
        vLLM does not tell.
        """
        if not self._capped:
            return
        for request_id, request in list(self._capped.items()):
            if engine in request.ending and not silent_sequences and not self._has_advanced(request, engine):
                self._tell_end(request_id, request, engine)

    def after_step(self, engine: int, *, tells_silent: bool) -> None:
        """A step of an engine is booked: end the requests that must, if their energy is to stay under their caps."""
        if not self._capped:
            return
        now = self._clock()
        since = now - self._reported_at_seconds.get(engine, now)
        self._reported_at_seconds[engine], self._interval_seconds[engine] = now, since
        self._assign_arrivals()
        for request_id, request in list(self._capped.items()):
            self._look_at(request_id, request, engine, tells_silent=tells_silent)

    def give_up(self, reason: str) -> None:
        """Keep the caps of those in flight no more; those that are ending still do."""
        for request_id, request in list(self._capped.items()):
            request.why_not_kept = reason
            for engine in list(request.ending):
                self._tell_end(request_id, request, engine)

    # -- inside --------------------------------------------------------------------------------------------------

    def _assign_arrivals(self) -> None:
        if self._sequences is None:
            return
        for internal_id, external_id in self._sequences.arrived():
            request_id = self._books.owner_of(external_id)
            if request_id not in self._capped:  # the Responses API numbers its turns
                request_id = self._engine_names.get(external_id.rpartition("_")[0], "")
            if (request := self._capped.get(request_id)) is not None:
                request.live[internal_id] = _Live()

    def _look_at(self, request_id: str, request: _Capped, engine: int, *, tells_silent: bool) -> None:
        meter = self._books.meter
        if meter is None or request.why_not_kept is not None or not meter.is_open(request_id):
            return
        advanced = self._take_stock(meter, request, engine)
        if (to_come := request.ending.get(engine)) is not None:
            # Where tokens still came, the engine had not heard of the end when it began the steps now under way.
            request.ending[engine] = self.steps_under_way if advanced and request.live else to_come - 1
            if not request.ending[engine]:
                self._tell_end(request_id, request, engine)
        elif request.is_over:
            self._stop(request_id, request, tells_silent=tells_silent)  # a turn that began after the cap was reached
        elif advanced:
            paying = [(one.first_row, sequence) for one, sequence in self._live(request) if one.first_row is not None]
            prefill, decode = meter.energy_so_far(request_id, paying, also_known_as=request.engine_name)
            if request.cap.must_end(prefill, decode, self.steps_under_way):
                self._stop(request_id, request, tells_silent=tells_silent)

    def _take_stock(self, meter: EnergyMeter, request: _Capped, engine: int) -> bool:
        """Note what each sequence has come to; returns whether any took part in the step, or ended with it."""
        advanced = False
        for internal_id, one in list(request.live.items()):
            sequence = request.sequences.sequence(internal_id)
            if sequence is None:
                del request.live[internal_id]
                advanced = True
            elif sequence.prefill_done and sequence.output_tokens > one.output_tokens:
                if one.first_row is None:
                    one.engine = sequence.engine
                    one.first_row = meter.first_row_of(sequence)
                one.output_tokens = sequence.output_tokens
                advanced = advanced or one.engine == engine
        return advanced

    def _live(self, request: _Capped) -> Iterable[tuple[_Live, EndedSequence]]:
        for internal_id, one in request.live.items():
            sequence = request.sequences.sequence(internal_id)
            if sequence is not None:
                yield one, replace(sequence, engine=one.engine)

    def _has_advanced(self, request: _Capped, engine: int) -> bool:
        """Whether vLLM gave out tokens of a request that is ending, for the engine heard of the end too late."""
        return any(one.engine == engine and seen.output_tokens > one.output_tokens for one, seen in self._live(request))

    def _stop(self, request_id: str, request: _Capped, *, tells_silent: bool) -> None:
        """Have the engines stop all that is left of a request and is not ending yet."""
        stopped = []
        engines = set()
        for internal_id, one in request.live.items():
            sequence = request.sequences.sequence(internal_id)
            if sequence is not None and one.first_row is None:
                one.engine = sequence.engine
            if one.engine not in request.ending:
                stopped.append(internal_id)
                engines.add(one.engine)
        if not stopped:
            return
        request.is_over = True
        request.sequences.stop(stopped)
        for engine in engines:
            request.ending[engine] = self.steps_under_way
            if tells_silent:
                self._watch(request_id, engine, _BUSY_PATIENCE)
            else:  # a step cannot be told to be shared by sequences that vLLM does not tell of
                self._tell_end(request_id, request, engine)

    def _watch(self, request_id: str, engine: int, patience: int) -> None:
        interval = _SILENT_INTERVALS * self._interval_seconds.get(engine, 0.0)
        seconds = min(_MOST_SILENCE_SECONDS, max(_LEAST_SILENCE_SECONDS, interval))
        self._call_later(seconds, lambda: self._overdue(request_id, engine, patience))

    def _overdue(self, request_id: str, engine: int, patience: int) -> None:
        """The engine has not told of the steps that were under way: it heard of the end before it began them."""
        request = self._capped.get(request_id)
        if request is None or engine not in request.ending:
            return
        ending = sum(len(one.live) for one in self._capped.values() if one.ending)
        is_busy = len(request.sequences) > ending
        if is_busy and patience:
            self._watch(request_id, engine, patience - 1)
            return
        self._tell_end(request_id, request, engine)
        if not is_busy and self._books.meter is not None and not self.steps_to_come(engine):
            self._books.meter.engine_idle(self._clock(), engine)

    def _tell_end(self, request_id: str, request: _Capped, engine: int) -> None:
        """Charge the sequences that are ending in an engine, and answer for them."""
        request.ending.pop(engine, None)
        ending = {internal_id: one for internal_id, one in request.live.items() if one.engine == engine}
        for internal_id in ending:
            del request.live[internal_id]
        self._charge(request_id, request, engine, ending)
        for internal_id in ending:
            if request.sequences.sequence(internal_id) is not None:  # else it ended by itself before the engine heard
                request.sequences.deliver_end(internal_id)
                request.is_reached = True

    def _charge(self, request_id: str, request: _Capped, engine: int, ending: Mapping[str, _Live]) -> None:
        meter = self._books.meter
        if meter is None or not meter.is_open(request_id):
            return
        prompts = []
        for internal_id, one in ending.items():
            if (sequence := request.sequences.sequence(internal_id)) is None:
                continue
            sequence = replace(sequence, engine=engine)
            if sequence.prefill_done:
                meter.sequence_ended(request_id, sequence, one.first_row)
            else:
                prompts.append(sequence)
        if prompts and not request.sequences.are_others_prefilling(ending.keys()):
            meter.prompts_abandoned(request_id, engine)
            return
        for sequence in prompts:
            meter.sequence_cut_off(request_id, sequence)
