"""Keeps account of what round-robin is estimated to have spent on the requests that were served, by model.

Its total is what was spent on prefill, decode and idling, and what round-robin would have spent beyond that: so the two
can be compared, and are equal where round-robin would have done the same. See docs/round-robin-estimate.md.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from metering.counter import MICROJOULES_PER_JOULE
from scheduler.round_robin_estimate import WorkerSpan, round_robin_extra_joules
from scheduler.worker_model import WorkerModel
from server.roster import Member, Roster
from server.worker_energy import WorkDone
from workers.supervisor import WorkerState

# Reports come once a second, each worker's at its own instant: over five seconds that matters little.
_STRETCH_SECONDS: Final = 5.0
# After a longer gap it was us who stood still, and what the workers did meanwhile is not known by stretches.
_LONGEST_STRETCH_SECONDS: Final = 30.0
_COMPARED_ACCOUNTS: Final = frozenset({"prefill", "decode", "idle"})
_NOTHING_DONE: Final = WorkDone(0, 0.0, 0, 0)


@dataclass(slots=True)
class _ModelAccount:
    extra_joules: float = 0.0
    shown_joules: float = 0.0


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A worker from one look to the next: what it had done at each, and whether it was parked at the first."""

    worker_id: str
    before: WorkDone
    done: WorkDone
    was_parked: bool
    is_awake: bool

    @property
    def was_started(self) -> bool:
        return self.was_parked and self.is_awake


class RoundRobinAccount:
    """Looks at the workers again and again. `learned` are the scheduler's models of them, by worker."""

    def __init__(self, roster: Roster, learned: Callable[[], Mapping[str, WorkerModel]]) -> None:
        self._roster = roster
        self._learned = learned
        self._accounts: dict[str, _ModelAccount] = {}
        self._seen: dict[str, _Stretch] = {}
        self._looked_at_seconds: float | None = None

    def look(self, now_seconds: float) -> None:
        """Take in what was done since the last look that is long enough ago; to be called about once a second."""
        last_seconds = self._looked_at_seconds
        if last_seconds is not None and now_seconds - last_seconds < _STRETCH_SECONDS:
            return
        self._looked_at_seconds = now_seconds
        elapsed_seconds = 0.0 if last_seconds is None else now_seconds - last_seconds
        is_known_stretch = 0 < elapsed_seconds <= _LONGEST_STRETCH_SECONDS
        learned = self._learned()
        for model, members in self._by_model().items():
            stretches = [self._stretch(member) for member in members]
            known = [one for member in members if (one := learned.get(member.worker_id)) and one.is_energy_known]
            if known and is_known_stretch:
                account = self._accounts.setdefault(model, _ModelAccount())
                account.extra_joules += _extra_joules(stretches, learned, known, elapsed_seconds)

    def totals(self) -> Iterator[tuple[str, float]]:
        """(model, joules) for each model of which enough is learned. No total ever falls."""
        members = self._by_model(include_all=True)
        for model, account in self._accounts.items():
            spent = sum(_compared_joules(member) for member in members.get(model, ()))
            account.shown_joules = max(account.shown_joules, spent + account.extra_joules)
            yield model, account.shown_joules

    def _by_model(self, *, include_all: bool = False) -> dict[str, list[Member]]:
        """Workers that meter themselves, by what they serve; of those, all that round-robin could use, or all."""
        by_model: dict[str, list[Member]] = {}
        for member in self._roster.members():
            is_usable = member.supervisor.state is WorkerState.READY or member.supervisor.is_parked
            if member.energy.source is not None and (is_usable or include_all):
                by_model.setdefault(member.energy.model, []).append(member)
        return by_model

    def _stretch(self, member: Member) -> _Stretch:
        """What it did since it was last looked at."""
        done = member.energy.work_done() or _NOTHING_DONE
        before = self._seen.get(member.worker_id)
        first = done if before is None else before.done
        is_awake = member.supervisor.state is WorkerState.READY
        was_parked = before is not None and not before.is_awake
        stretch = _Stretch(member.worker_id, first, done, was_parked, is_awake)
        self._seen[member.worker_id] = stretch
        return stretch


def _extra_joules(
    stretches: list[_Stretch], learned: Mapping[str, WorkerModel], known: list[WorkerModel], elapsed_seconds: float
) -> float:
    """Beyond what was spent: round-robin would not have had to start those that were parked."""
    spans: list[WorkerSpan] = []
    starts_joules = 0.0
    for stretch in stretches:
        own = learned.get(stretch.worker_id)
        model = own if own is not None and own.is_energy_known else _like(own, known)
        spans.append(_span(model, stretch))
        starts_joules += model.start_joules if stretch.was_started else 0.0
    return round_robin_extra_joules(spans, elapsed_seconds) - starts_joules


def _like(own: WorkerModel | None, known: list[WorkerModel]) -> WorkerModel:
    """A worker that was observed, on the same hardware if there is one."""
    return next((model for model in known if own is not None and model.hardware == own.hardware), known[0])


def _span(model: WorkerModel, stretch: _Stretch) -> WorkerSpan:
    before, done = stretch.before, stretch.done
    span = WorkerSpan(
        model,
        stretch.is_awake,
        done.steps - before.steps,
        done.step_seconds - before.step_seconds,
        done.decode_tokens - before.decode_tokens,
        done.prefill_tokens - before.prefill_tokens,
    )
    if min(span.steps, span.step_seconds, span.decode_tokens, span.prefill_tokens) < 0:
        # A worker that counts backwards is not to be believed in anything.
        return replace(span, steps=0, step_seconds=0.0, decode_tokens=0, prefill_tokens=0)
    return span


def _compared_joules(member: Member) -> float:
    """Since this server's start, so that the total begins anew with it, as a counter must.

    Beginning with all that an attached worker ever spent, it would stand below where the last one ended by what was
    saved, and Prometheus would take the whole of it for spent at once.
    """
    accounts = member.energy.totals_since_start()
    return sum(energy for (_, account), energy in accounts if account in _COMPARED_ACCOUNTS) / MICROJOULES_PER_JOULE
