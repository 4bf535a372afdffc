"""The meter: counters and engine steps in, every microjoule accounted for, a request's energy out.

Synchronous and single-threaded (the sampler's thread only feeds the tracks). Time arrives as an argument. Knows
nothing of HTTP or of vLLM.

A step's energy is first what the counter is estimated to rise by until its end. It is corrected, for the sequences that
are still there, once the counter has told. The accounts take in only what has ended: they never fall. Nothing is booked
twice or lost.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import Final

from metering.block import RequestEnergy
from metering.books import EngineBooks
from metering.charges import Charges, OpenRequest, RequestTotals
from metering.counter import CounterInfo
from metering.fault import CounterFault
from metering.ledger import ComponentLedger
from metering.step import EndedSequence, EngineStep
from metering.step_cost import StepCostModel
from metering.supply import EnergySupply, Feed
from metering.track import CounterTrack
from metering.uncertainty import uncertainty_ratio

_RECENT_REQUESTS: Final = 256
# The front end asks once a second; so many callers may leave in between and still be charged.
_RECENT_ABORTS: Final = 1024
_OUTAGE: Final = "the energy counter did not answer while the request ran"
_NO_READING: Final = "the energy counter had not been read twice by the request's end"
_RESET: Final = "the energy counter was reset or leapt while the request ran"
_TOO_LONG: Final = "the request ran for more steps than the meter remembers"
# What a reset may hide of a request: no more than a board's sensor is off by anyway (arXiv 2312.02741). Up to there it
# is added to the uncertainty.
_MAX_LOST_RATIO: Final = 0.05
# Sequences that ended under an id no open request has; their energy is booked, only their owner is unknown.
_MAX_UNCLAIMED: Final = 1024
# A request cut off in the middle of its prefill is charged once prefill pauses; under constant load, after this.
_ABORT_PATIENCE_SECONDS: Final = 10.0


class EnergyMeter:
    """Books the energy of one server's engines to their requests, and what is left to idle, loading or unattributed.

    `tracks` may hold several counters of one component (the GPUs of a tensor-parallel group): they are summed.
    `engines` are the data-parallel engines of the server; `users` says of each track which of them it serves, all where
    it is left out.
    """

    def __init__(
        self, tracks: Sequence[CounterTrack], engines: int = 1, users: Sequence[tuple[int, ...]] | None = None
    ) -> None:
        if not tracks:
            raise ValueError("an energy meter needs at least one counter track")
        self.tracks = tuple(tracks)
        self.components = tuple(dict.fromkeys(track.info.component for track in tracks))
        self.engines = engines
        self.ledgers = [ComponentLedger(engines) for _ in self.components]
        everybody = tuple(range(engines))
        self._supply = supply = EnergySupply(
            [
                Feed(track, self.ledgers[self.components.index(track.info.component)], served)
                for track, served in zip(tracks, users or [everybody] * len(tracks), strict=True)
            ]
        )
        cost = StepCostModel()
        self._books = [EngineBooks(engine, self.ledgers, supply, cost) for engine in everybody]
        self.totals = RequestTotals()
        self.recent: deque[RequestEnergy] = deque(maxlen=_RECENT_REQUESTS)
        self.recent_aborts: deque[RequestEnergy] = deque(maxlen=_RECENT_ABORTS)
        self._open: OrderedDict[str, OpenRequest] = OrderedDict()
        self._aborting: dict[str, OpenRequest] = {}
        self._unclaimed: OrderedDict[str, Charges] = OrderedDict()
        self._busy: frozenset[int] = frozenset()
        self._rest_account = "loading"

    # -- the engines' life ---------------------------------------------------------------------------------------

    def engine_ready(self, now_seconds: float) -> None:
        """Loading is over; from here on time without requests is idle."""
        if self._rest_account == "loading":
            for engine in range(self.engines):
                self._draw(now_seconds, engine)
            self._rest_account = "idle"

    def advance(self, now_seconds: float) -> None:
        """Book what the counters of engines without requests have confirmed by now; leaves those in mid-step alone."""
        until_seconds = min(now_seconds, self._awaited_since(now_seconds))
        self._supply.rest(now_seconds, until_seconds, self._busy, self._rest_account)

    # -- steps ---------------------------------------------------------------------------------------------------

    def step(self, step: EngineStep) -> None:
        """Take in one engine step; the sequences that ended with it come right after, through `sequence_ended`."""
        self._settle_aborted(step.engine, now_seconds=step.ended_at_seconds)
        if self._rest_account == "loading":  # an engine that was not announced
            self._rest_account = "idle"
        books = self._books[step.engine]
        if not books.is_busy and step.took_seconds is not None:
            self._draw(step.ended_at_seconds - step.took_seconds, step.engine)
        self._busy |= {step.engine}
        self._draw(step.ended_at_seconds, step.engine)
        books.take_in(step)
        if not books.is_busy:
            self._busy -= {step.engine}
        for request in self._aborting.values():
            request.unseen_steps.discard(step.engine)
        self._forget_old_steps(step.engine)

    def engine_idle(self, now_seconds: float, engine: int = 0) -> None:
        """The engine says that nothing is running or waiting in it."""
        books = self._books[engine]
        if books.is_busy:  # between the last step and this word: an abort's unfinished business
            self._draw(now_seconds, engine)
        books.is_busy = books.prefill_seen = books.prompts_may_wait = False
        self._busy -= {engine}
        self._settle_aborted(engine, now_seconds=now_seconds, engine_empty=True)
        books.settle()

    def sequence_ended(self, request_id: str, ended: EndedSequence, first_row: int | None = None) -> None:
        """A sequence of `request_id` produced its last token in the step just taken in.

        One that took part in steps after its last token, whose output nobody took, is told with the row it began in.
        """
        books = self._books[ended.engine]
        first_row = books.first_row_of(ended) if first_row is None else first_row
        charges = books.charge(first_row, ended)
        request = self._open.get(request_id)
        if request is None and (request := self._aborting.get(request_id)) is not None:
            request.strike_off(first_row, ended)
        if request is not None:
            request.charges.add(charges)
            return
        waiting = self._unclaimed.setdefault(request_id, self._no_charges())
        waiting.add(charges)
        if len(self._unclaimed) > _MAX_UNCLAIMED:
            self._unclaimed.popitem(last=False)

    # -- requests ------------------------------------------------------------------------------------------------

    def request_started(self, request_id: str, now_seconds: float) -> None:
        """A request entered the server. Its id must be one that the meter does not know."""
        self.advance(now_seconds)
        self._open[request_id] = OpenRequest(
            started_at_seconds=now_seconds,
            assigned_at_start=self.assigned_microjoules(),
            first_rows=tuple(books.last_row for books in self._books),
            lost_at_start_seconds=self._supply.lost_seconds(),
            charges=self._no_charges(),
        )

    def is_open(self, request_id: str) -> bool:
        """Whether a request of this id is in flight."""
        return request_id in self._open

    def knows(self, request_id: str) -> bool:
        """Whether a request of this id is in flight, or was cut off and is still to be charged."""
        return request_id in self._open or request_id in self._aborting

    def has_ended_sequences(self, request_id: str, *, also_known_as: str | None = None) -> bool:
        """Whether the engine has reported the end of any sequence of an open request."""
        return self._open[request_id].charges.sequences > 0 or bool(self._unclaimed_of(also_known_as))

    def sequence_cut_off(self, request_id: str, ended: EndedSequence) -> None:
        """A live sequence of an open request is about to be aborted; it pays up to the step now running."""
        request = self._open.get(request_id)
        if request is not None:
            request.cut_off.append((self._books[ended.engine].first_row_of(ended), ended))

    def first_row_of(self, sequence: EndedSequence) -> int:
        """In which row of its engine's books a sequence that took part in the latest step got its first token."""
        return self._books[sequence.engine].first_row_of(sequence)

    def energy_so_far(
        self, request_id: str, live: Iterable[tuple[int, EndedSequence]], *, also_known_as: str | None = None
    ) -> tuple[int, int]:
        """What an open request would be charged if it ended now, in microjoules: its prefill and its decode.

        `live` are its sequences that have their first token and have not ended, each with the row it came in.
        """
        charged = [self._open[request_id].charges]
        charged += [self._unclaimed[name] for name in self._unclaimed_of(also_known_as)]
        prefill = sum(sum(one.prefill) for one in charged)
        decode = sum(sum(one.decode) for one in charged)
        for first_row, sequence in live:
            prompt, share = self._books[sequence.engine].owed(first_row, sequence)
            prefill += prompt
            decode += share
        return prefill, decode

    def prompts_abandoned(self, request_id: str, engine: int) -> None:
        """All prompts that were begun in an engine and have no first token are an open request's, which was cut off."""
        self._books[engine].charge_abandoned_prefill(self._open[request_id].charges)

    def request_ended(self, request_id: str, now_seconds: float, *, also_known_as: str | None = None) -> RequestEnergy:
        """All of a request's sequences have ended: its energy, known so far to the last reading.

        `also_known_as` is the name under which the engine may have reported its sequences instead, each with an index.
        Sequences of it that were cut off are charged once what they used is known, as if they had been a request of
        the same id.

        Raises:
            KeyError: no such request is in flight.
        """
        request = self._open.pop(request_id)
        self._claim(request, also_known_as)
        energy = self._close(request_id, request, "completed", now_seconds)
        if request.cut_off:
            request.charges, request.is_answered = self._no_charges(), True
            self._await_charge(request_id, request, now_seconds)
        return energy

    def request_refused(self, request_id: str) -> None:
        """A request that the engine never ran (bad input, say); forgotten without a trace."""
        request = self._open.pop(request_id)
        if request.charges.sequences:
            self._close(request_id, request, "aborted", request.started_at_seconds)

    def request_aborted(self, request_id: str, now_seconds: float, *, also_known_as: str | None = None) -> None:
        """A request was cut off by its caller. It is charged once the step it still takes part in is known."""
        request = self._open.pop(request_id)
        self._claim(request, also_known_as)
        if request.cut_off:
            self._await_charge(request_id, request, now_seconds)
        else:
            self._close(request_id, request, "aborted", now_seconds)

    # -- reports -------------------------------------------------------------------------------------------------

    @property
    def source(self) -> str:
        """What was read: one source, or several joined by `+`."""
        return "+".join(dict.fromkeys(track.info.source for track in self.tracks))

    @property
    def measured(self) -> bool:
        """Whether every counter reads hardware."""
        return all(track.info.measured for track in self.tracks)

    @property
    def open_requests(self) -> int:
        return len(self._open)

    @property
    def epochs(self) -> int:
        """Counter epochs begun, summed over the counters; more than the number of counters means faults."""
        return sum(track.epochs for track in self.tracks)

    def faults(self) -> list[tuple[CounterInfo, Counter[CounterFault]]]:
        """What went wrong with each counter so far."""
        return [(track.info, track.faults) for track in self.tracks]

    def confirmed_microjoules(self) -> int:
        """The hardware counters' own delta since the meter began, up to their last reading."""
        return sum(track.confirmed_microjoules() for track in self.tracks)

    def assigned_microjoules(self) -> int:
        """Everything booked so far, in flight included; ahead of the counters by what is extrapolated."""
        return sum(ledger.assigned for ledger in self.ledgers)

    def power_watts(self, now_seconds: float) -> dict[str, float | None]:
        """Present power per component; None where a counter has stopped answering."""
        watts: dict[str, float | None] = {}
        for track in self.tracks:
            name, power = track.info.component, track.power_watts(now_seconds)
            known = watts.get(name, 0.0)
            watts[name] = None if power is None or known is None else known + power
        return watts

    # -- inside --------------------------------------------------------------------------------------------------

    def _draw(self, at_seconds: float, engine: int) -> None:
        self._supply.draw(at_seconds, engine, self._busy, self._rest_account)

    def _awaited_since(self, now_seconds: float) -> float:
        """Since when a request is here of which no engine has told yet.

        An engine is first heard of when its step is over: the time until then may not be idle.
        """
        waiting = (one.started_at_seconds for one in self._open.values() if not one.charges.sequences)
        return next(waiting, now_seconds)

    def _no_charges(self) -> Charges:
        return Charges([0] * len(self.ledgers), [0] * len(self.ledgers))

    def _unclaimed_of(self, engine_name: str | None) -> list[str]:
        """Ids of unclaimed sequences that are an engine's name for a request with an index after it."""
        if engine_name is None:
            return []
        return [name for name in self._unclaimed if name.rpartition("_")[0] == engine_name]

    def _claim(self, request: OpenRequest, engine_name: str | None) -> None:
        for name in self._unclaimed_of(engine_name):
            request.charges.add(self._unclaimed.pop(name))

    def _await_charge(self, request_id: str, request: OpenRequest, now_seconds: float) -> None:
        request.aborted_at_seconds = now_seconds
        request.unseen_steps = {ended.engine for _, ended in request.cut_off}
        self._aborting[request_id] = request

    def _forget_old_steps(self, engine: int) -> None:
        books = self._books[engine]
        oldest = next(iter(self._open.values()), None)
        rows = [row for request in self._aborting.values() for row, ended in request.cut_off if ended.engine == engine]
        books.forget_before(min([*rows, oldest.first_rows[engine] if oldest else books.last_row]))

    def _settle_aborted(self, engine: int, *, now_seconds: float, engine_empty: bool = False) -> None:
        """Charge the requests that were cut off, once the last step they took part in and its ends are booked.

        Of several that were cut off before their first token the oldest was the one being computed.
        """
        books = self._books[engine]
        closing: list[tuple[str, OpenRequest]] = []
        for request_id, request in self._aborting.items():
            if engine_empty:
                request.unseen_steps.discard(engine)
            if engine in request.unseen_steps:
                continue
            waiting: list[tuple[int, EndedSequence]] = []
            for first_row, ended in request.cut_off:
                if ended.engine == engine and ended.prefill_done:
                    request.charges.add(books.charge(first_row, ended))
                else:
                    waiting.append((first_row, ended))
            request.cut_off = waiting
            prompts = [ended for _, ended in waiting if ended.engine == engine]
            elsewhere = len(prompts) < len(waiting)
            waited = now_seconds - request.aborted_at_seconds
            if not elsewhere and not (prompts and books.prefill_seen and waited < _ABORT_PATIENCE_SECONDS):
                closing.append((request_id, request))
        for request_id, request in sorted(closing, key=lambda one: one[1].started_at_seconds):
            if not books.prefill_seen and request.cut_off:
                books.charge_abandoned_prefill(request.charges)
            self._close_aborted(request_id)
        if not (books.prefill_seen or books.prompts_may_wait or self._aborting):
            books.disown_prefills()

    def _close_aborted(self, request_id: str) -> None:
        """Of one that was answered, only what is left to charge counts as a request of its own."""
        request = self._aborting.pop(request_id)
        if not request.is_answered or any((*request.charges.prefill, *request.charges.decode)):
            self._close(request_id, request, "aborted", request.aborted_at_seconds)

    def _close(self, request_id: str, request: OpenRequest, outcome: str, now_seconds: float) -> RequestEnergy:
        charges = request.charges
        duration = max(0.0, now_seconds - request.started_at_seconds)
        totals = [p + d for p, d in zip(charges.prefill, charges.decode, strict=True)]
        lost = zip(self._supply.lost_seconds(), request.lost_at_start_seconds, strict=True)
        lost_ratio = min(1.0, max(now - before for now, before in lost) / max(duration, 1e-9))
        energy = RequestEnergy(
            request_id=request_id,
            outcome=outcome,
            prefill_microjoules=sum(charges.prefill),
            decode_microjoules=sum(charges.decode),
            components_microjoules=dict(zip(self.components, totals, strict=True)),
            device_microjoules=self.assigned_microjoules() - request.assigned_at_start,
            duration_seconds=duration,
            prompt_tokens=charges.prompt_tokens,
            output_tokens=charges.output_tokens,
            source=self.source,
            measured=self.measured,
            uncertainty_ratio=uncertainty_ratio([track.info for track in self.tracks], totals, duration, lost_ratio),
            unknown_reason=self._why_unknown(request, lost_ratio),
        )
        self._count(energy)
        return energy

    def _why_unknown(self, request: OpenRequest, lost_ratio: float) -> str | None:
        """Why a request's energy cannot be told, None where it can."""
        engines = request.charges.engines or range(self.engines)
        if request.started_at_seconds < self._supply.blind_at_seconds(engines):
            return _OUTAGE
        if self._supply.knew_nothing_since(request.started_at_seconds, engines):
            return _NO_READING
        if lost_ratio > _MAX_LOST_RATIO:
            return _RESET
        return None if request.charges.is_whole else _TOO_LONG

    def _count(self, energy: RequestEnergy) -> None:
        totals = self.totals
        if energy.outcome == "completed":
            totals.completed += 1
            totals.completed_microjoules += energy.microjoules
        else:
            totals.aborted += 1
            totals.aborted_microjoules += energy.microjoules
            self.recent_aborts.append(energy)
        totals.prompt_tokens += energy.prompt_tokens
        totals.output_tokens += energy.output_tokens
        self.recent.append(energy)
