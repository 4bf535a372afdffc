"""The meter: counters and engine steps in, every microjoule accounted for, a request's energy out.

Synchronous and single-threaded (the sampler's thread only feeds the tracks). Time arrives as an argument. Knows
nothing of HTTP or of vLLM.

A step's energy is taken as the counter's estimate at its end less what is already booked. The estimate runs ahead of
the last reading by at most one update period; when the next reading corrects it, the difference joins the following
step or idle time. Nothing is ever booked twice, lost or taken back.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final

from metering.block import RequestEnergy
from metering.charges import Charges, OpenRequest, RequestTotals
from metering.counter import MICROJOULES_PER_JOULE, CounterInfo
from metering.history import StepHistory
from metering.ledger import ComponentLedger, StepPrice
from metering.phase_cost import PhaseCostModel
from metering.step import EndedSequence, EngineStep
from metering.track import CounterTrack

_RECENT_REQUESTS: Final = 256
# The front end asks once a second; so many callers may leave in between and still be charged.
_RECENT_ABORTS: Final = 1024
_OUTAGE: Final = "the energy counter did not answer while the request ran"
# Sequences that ended under an id no open request has; their energy is booked, only their owner is unknown.
_MAX_UNCLAIMED: Final = 1024
# A request cut off in the middle of its prefill is charged once prefill pauses; under constant load, after this.
_ABORT_PATIENCE_SECONDS: Final = 10.0


class EnergyMeter:
    """Books the energy of one engine to its requests, and what is left to idle, loading or unattributed.

    `tracks` may hold several counters of one component (the GPUs of a tensor-parallel group): they are summed.
    """

    def __init__(self, tracks: Sequence[CounterTrack]) -> None:
        if not tracks:
            raise ValueError("an energy meter needs at least one counter track")
        self._info: CounterInfo = tracks[0].info
        self.components = tuple(dict.fromkeys(track.info.component for track in tracks))
        self._tracks = [[t for t in tracks if t.info.component == name] for name in self.components]
        self.ledgers = [ComponentLedger() for _ in self.components]
        self.totals = RequestTotals()
        self.recent: deque[RequestEnergy] = deque(maxlen=_RECENT_REQUESTS)
        self.recent_aborts: deque[RequestEnergy] = deque(maxlen=_RECENT_ABORTS)
        self._history = StepHistory(len(self.components))
        self._cost = PhaseCostModel()
        self._open: OrderedDict[str, OpenRequest] = OrderedDict()
        self._aborting: dict[str, OpenRequest] = {}
        self._unclaimed: OrderedDict[str, Charges] = OrderedDict()
        self._loading = True
        self._busy = False
        self._prefill_seen = False  # in the latest step
        self._is_blind = False
        self._last_blind_at_seconds = float("-inf")
        self._remembered_at_seconds: float | None = None

    # -- the engine's life ---------------------------------------------------------------------------------------

    def engine_ready(self, now_seconds: float) -> None:
        """Loading is over; from here on time without requests is idle."""
        if self._loading:
            self._spend_without_requests(now_seconds)
            self._loading = False

    def advance(self, now_seconds: float) -> None:
        """Book what the counters have confirmed by now while no request ran; does nothing in mid-step."""
        if not self._busy:
            self._spend_without_requests(now_seconds, confirmed_only=True)

    # -- steps ---------------------------------------------------------------------------------------------------

    def step(self, step: EngineStep) -> None:
        """Take in one engine step; the sequences that ended with it come right after, through `sequence_ended`."""
        self._settle_aborted(now_seconds=step.ended_at_seconds)
        self._mind_outages(step.ended_at_seconds)
        self._loading = False
        started = step.ended_at_seconds - step.duration_seconds if step.duration_seconds is not None else None
        if not self._busy and started is not None:
            self._spend_without_requests(started)
        energies = [
            max(0, self._estimate(i, step.ended_at_seconds) - ledger.assigned) for i, ledger in enumerate(self.ledgers)
        ]
        tokens, sequences = step.prefill_tokens, step.decode_sequences
        ratio = self._cost.prefill_ratio(tokens, sequences)
        self._cost.learn(tokens, sequences, sum(energies) / MICROJOULES_PER_JOULE)
        prices = []
        for ledger, energy in zip(self.ledgers, energies, strict=True):
            prefill = round(energy * ratio)
            ledger.spend_step(
                prefill=prefill, prefill_tokens=tokens, decode=energy - prefill, decode_sequences=sequences
            )
            prices.append(ledger.complete_prefills(step.first_tokens, step.first_token_prompt_tokens))
        self._remember(step, prices)
        self._prefill_seen = tokens > 0
        self._busy = step.unfinished_sequences > 0
        for request in self._aborting.values():
            request.last_step_seen = True
        self._forget_old_steps()

    def engine_idle(self, now_seconds: float) -> None:
        """The engine says that nothing is running or waiting in it."""
        if self._busy:
            self._spend_overhead(now_seconds)
        self._busy = self._prefill_seen = False
        self._settle_aborted(now_seconds=now_seconds, engine_empty=True)
        for ledger in self.ledgers:
            ledger.settle()

    def sequence_ended(self, request_id: str, ended: EndedSequence) -> None:
        """A sequence of `request_id` produced its last token in the step just taken in."""
        first_row = self._history.index_before_last(ended.decode_seconds)
        charges = self._charge(first_row, ended)
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
            assigned_at_start=sum(ledger.assigned for ledger in self.ledgers),
            first_row=self._history.last_index,
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
            request.cut_off.append((self._history.index_before_last(ended.decode_seconds), ended))

    def request_ended(self, request_id: str, now_seconds: float, *, also_known_as: str | None = None) -> RequestEnergy:
        """All of a request's sequences have ended: its energy, known so far to the last reading.

        `also_known_as` is the name under which the engine may have reported its sequences instead, each with an index.

        Raises:
            KeyError: no such request is in flight.
        """
        request = self._open.pop(request_id)
        self._claim(request, also_known_as)
        return self._close(request_id, request, "completed", now_seconds)

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
            request.aborted_at_seconds = now_seconds
            self._aborting[request_id] = request
        else:
            self._close(request_id, request, "aborted", now_seconds)

    # -- reports -------------------------------------------------------------------------------------------------

    @property
    def source(self) -> str:
        return self._info.source

    @property
    def measured(self) -> bool:
        return self._info.measured

    @property
    def open_requests(self) -> int:
        return len(self._open)

    @property
    def epochs(self) -> int:
        """Counter epochs begun, summed over the counters; more than the number of counters means faults."""
        return sum(track.epochs for tracks in self._tracks for track in tracks)

    def confirmed_microjoules(self) -> int:
        """The hardware counters' own delta since the meter began, up to their last reading."""
        return sum(track.confirmed_microjoules() for tracks in self._tracks for track in tracks)

    def assigned_microjoules(self) -> int:
        """Everything booked so far, in flight included; ahead of the counters by what is extrapolated."""
        return sum(ledger.assigned for ledger in self.ledgers)

    def power_watts(self, now_seconds: float) -> dict[str, float | None]:
        """Present power per component; None where a counter has stopped answering."""
        watts: dict[str, float | None] = {}
        for name, tracks in zip(self.components, self._tracks, strict=True):
            readings = [track.power_watts(now_seconds) for track in tracks]
            known = [reading for reading in readings if reading is not None]
            watts[name] = sum(known) if len(known) == len(readings) else None
        return watts

    # -- inside --------------------------------------------------------------------------------------------------

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

    def _remember(self, step: EngineStep, prices: list[StepPrice]) -> None:
        """Keep the step's prices if a first token can lie in it, as it cannot in a step that gave no token.

        Times between tokens then lead from one row kept to the next, and not past those of bare prompt chunks.
        """
        if step.inter_token_seconds is None and not step.first_tokens:
            return
        elapsed = step.inter_token_seconds
        if elapsed is None:
            elapsed = max(0.0, step.ended_at_seconds - (self._remembered_at_seconds or step.ended_at_seconds))
        self._history.append(elapsed, prices)
        self._remembered_at_seconds = step.ended_at_seconds

    def _forget_old_steps(self) -> None:
        oldest = next(iter(self._open.values()), None)
        rows = [row for request in self._aborting.values() for row, _ in request.cut_off]
        self._history.forget_before(min([*rows, oldest.first_row if oldest else self._history.last_index]))

    def _estimate(self, component: int, at_seconds: float) -> int:
        return sum(track.estimate_microjoules(at_seconds) for track in self._tracks[component])

    def _mind_outages(self, at_seconds: float) -> None:
        """A counter that was silent for long tells, when it is back, of energy whose owners nobody can know."""
        is_blind = any(track.is_blind(at_seconds) for tracks in self._tracks for track in tracks)
        if self._is_blind and not is_blind:
            for index, ledger in enumerate(self.ledgers):
                ledger.spend("unattributed", max(0, self._confirmed(index) - ledger.assigned))
        if is_blind:
            self._last_blind_at_seconds = at_seconds
        self._is_blind = is_blind

    def _confirmed(self, component: int) -> int:
        return sum(track.confirmed_microjoules() for track in self._tracks[component])

    def _spend_without_requests(self, until_seconds: float, *, confirmed_only: bool = False) -> None:
        account = "loading" if self._loading else "idle"
        for index, ledger in enumerate(self.ledgers):
            reached = self._confirmed(index) if confirmed_only else self._estimate(index, until_seconds)
            ledger.spend(account, max(0, reached - ledger.assigned))

    def _spend_overhead(self, until_seconds: float) -> None:
        """Between the last step and the word that nothing is left: an abort's unfinished business."""
        for index, ledger in enumerate(self.ledgers):
            ledger.spend("unattributed", max(0, self._estimate(index, until_seconds) - ledger.assigned))

    def _charge(self, first_row: int, ended: EndedSequence) -> Charges:
        charges = self._no_charges()
        for index, (ledger, price) in enumerate(zip(self.ledgers, self._history.prices(first_row), strict=True)):
            charges.prefill[index], charges.decode[index] = ledger.charge(price, ended.computed_prompt_tokens)
        charges.prompt_tokens = ended.prompt_tokens
        charges.output_tokens = ended.output_tokens
        charges.sequences = 1
        return charges

    def _settle_aborted(self, *, now_seconds: float, engine_empty: bool = False) -> None:
        """Charge the requests that were cut off, once the last step they took part in and its ends are booked.

        Of several that were cut off before their first token the oldest was the one being computed.
        """
        closing: list[tuple[str, OpenRequest]] = []
        for request_id, request in self._aborting.items():
            if not request.last_step_seen and not engine_empty:
                continue
            for first_row, ended in request.cut_off:
                if ended.prefill_done:
                    request.charges.add(self._charge(first_row, ended))
            request.cut_off = [(row, ended) for row, ended in request.cut_off if not ended.prefill_done]
            waited = now_seconds - request.aborted_at_seconds
            if not (request.cut_off and self._prefill_seen and waited < _ABORT_PATIENCE_SECONDS):
                closing.append((request_id, request))
        for request_id, request in sorted(closing, key=lambda one: one[1].started_at_seconds):
            if not self._prefill_seen:
                self._charge_abandoned_prefill(request)
            del self._aborting[request_id]
            self._close(request_id, request, "aborted", request.aborted_at_seconds)
        if not self._prefill_seen and not self._aborting:
            for ledger in self.ledgers:
                ledger.disown(ledger.abandon_prefills())

    def _charge_abandoned_prefill(self, request: OpenRequest) -> None:
        if not request.cut_off:
            return
        for index, ledger in enumerate(self.ledgers):
            request.charges.prefill[index] += ledger.charge_prefill(ledger.abandon_prefills())

    def _close(self, request_id: str, request: OpenRequest, outcome: str, now_seconds: float) -> RequestEnergy:
        charges = request.charges
        duration = max(0.0, now_seconds - request.started_at_seconds)
        energy = RequestEnergy(
            request_id=request_id,
            outcome=outcome,
            prefill_microjoules=sum(charges.prefill),
            decode_microjoules=sum(charges.decode),
            components_microjoules={
                name: p + d for name, p, d in zip(self.components, charges.prefill, charges.decode, strict=True)
            },
            device_microjoules=self.assigned_microjoules() - request.assigned_at_start,
            duration_seconds=duration,
            prompt_tokens=charges.prompt_tokens,
            output_tokens=charges.output_tokens,
            source=self._info.source,
            measured=self._info.measured,
            uncertainty_ratio=self._uncertainty(duration),
            unknown_reason=_OUTAGE if request.started_at_seconds <= self._last_blind_at_seconds else None,
        )
        self._count(energy)
        return energy

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

    def _uncertainty(self, duration_seconds: float) -> float | None:
        """The sensor's steady error, plus the refresh period that either end of the request may be off by."""
        steady = self._info.uncertainty_ratio
        if steady is None:
            return None
        edge = self._info.update_period_seconds / duration_seconds if duration_seconds > 0 else 1.0
        return float(min(1.0, (steady * steady + edge * edge) ** 0.5))
