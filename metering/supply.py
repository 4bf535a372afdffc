"""Where the counters' energy goes as it comes in: to the engines that are running, or to idle or loading.

Each counter serves one or several engines: the boards of a data-parallel rank that rank, a CPU package all of them.
While some of its engines run, its energy is theirs, in equal parts; while none does, it is idle or loading. What a
counter is ahead of or behind the books is evened out by what it tells next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from metering.ledger import ComponentLedger
from metering.track import CounterTrack

# Of what a counter tells, booked while the books that ran ahead of it wait for it to catch up.
_LEAST_PACE: Final = 0.5


@dataclass(slots=True)
class Feed:
    """One counter, the ledger it feeds, and how much of it is booked.

    `residual` is what the counter has told beyond what is booked (or, below zero, the books beyond it) and no step that
    may still be corrected accounts for.
    """

    track: CounterTrack
    ledger: ComponentLedger
    engines: tuple[int, ...]
    booked: int = 0
    booked_at_seconds: float = float("-inf")
    stray_booked: int = 0
    residual: int | None = None  # unknown after a rest or a fault: then all of the difference
    generation: int = 0


@dataclass(slots=True)
class Draw:
    """Energy that one engine was given for a stretch of time, as it was estimated then.

    `place` of `users` engines shared it. `generation` is that of the counter's timeline.
    """

    feed: Feed
    began_at_seconds: float
    ended_at_seconds: float
    place: int
    users: int
    microjoules: int
    generation: int

    @property
    def is_final(self) -> bool:
        """Whether the counter has told by now what it stood at when the stretch ended, or never will."""
        track = self.feed.track
        return track.known_until_seconds >= self.ended_at_seconds or track.generation != self.generation

    @property
    def seconds(self) -> float:
        return max(0.0, self.ended_at_seconds - max(0.0, self.began_at_seconds))

    def correction_microjoules(self) -> int | None:
        """What the counter says now that the stretch cost, less what it was given; None where it cannot say."""
        spent = self.feed.track.spent_microjoules(self.began_at_seconds, self.ended_at_seconds, self.generation)
        return None if spent is None else _part(spent, self.place, self.users) - self.microjoules

    def continues(self, other: Draw) -> bool:
        """Whether this stretch follows on `other` and was shared alike, so that the two may be one."""
        return (
            self.feed is other.feed
            and (self.place, self.users, self.generation) == (other.place, other.users, other.generation)
            and self.began_at_seconds == other.ended_at_seconds
        )


def _part(energy: int, place: int, users: int) -> int:
    share, rest = divmod(energy, users)
    return share + (1 if place < rest else 0)


class EnergySupply:
    """Books what the counters tell, exactly once."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = tuple(feeds)
        self._draws: dict[int, list[Draw]] = {}
        self._blind_at_seconds: dict[int, float] = {}

    def draw(self, at_seconds: float, engine: int, busy: frozenset[int], rest_account: str) -> None:
        """Book the energy, up to `at_seconds`, of the counters that serve `engine`, which has a step to account for.

        It goes to those of their engines that are `busy`, or to `rest_account`.
        """
        for feed in self._feeds:
            if engine in feed.engines:
                self._book(feed, at_seconds, feed.track.estimate_microjoules(at_seconds), busy, rest_account)

    def rest(self, now_seconds: float, until_seconds: float, busy: frozenset[int], rest_account: str) -> None:
        """Book what the counters of engines that are not `busy` have confirmed, up to `until_seconds`."""
        for feed in self._feeds:
            if busy.isdisjoint(feed.engines):
                if feed.track.is_blind(now_seconds) or feed.track.stray_microjoules != feed.stray_booked:
                    self._note_blind(feed, now_seconds)
                reached = min(feed.track.confirmed_microjoules(), feed.track.estimate_microjoules(until_seconds))
                self._book(feed, until_seconds, reached, busy, rest_account)

    def blind_at_seconds(self, engines: Iterable[int]) -> float:
        """When a counter that serves one of `engines` last did not tell what was spent."""
        return max((self._blind_at_seconds.get(engine, float("-inf")) for engine in engines), default=float("-inf"))

    def lost_seconds(self) -> tuple[float, ...]:
        """How long resets and jumps have kept from us in all, for each counter."""
        return tuple(feed.track.lost_seconds for feed in self._feeds)

    def knew_nothing_since(self, at_seconds: float, engines: Iterable[int]) -> bool:
        """Whether a counter that serves one of `engines` has told too little since then even to extrapolate."""
        concerned = set(engines)
        return any(
            feed.track.knew_nothing_since(at_seconds) for feed in self._feeds if concerned.intersection(feed.engines)
        )

    def _note_blind(self, feed: Feed, at_seconds: float) -> None:
        for engine in feed.engines:
            self._blind_at_seconds[engine] = max(at_seconds, self._blind_at_seconds.get(engine, at_seconds))

    def _book(self, feed: Feed, at_seconds: float, reached: int, busy: frozenset[int], rest_account: str) -> None:
        track = feed.track
        users = [engine for engine in feed.engines if engine in busy]
        if track.is_blind(at_seconds):
            self._note_blind(feed, at_seconds)
        if track.stray_microjoules != feed.stray_booked:
            self._book_stray(feed, "unattributed" if users else rest_account, at_seconds)
        if track.generation != feed.generation:
            feed.generation, feed.residual = track.generation, None
        if users:
            self._hand_out(feed, users, at_seconds, reached)
        else:
            feed.residual = None
            if reached > feed.booked:
                feed.ledger.spend(rest_account, reached - feed.booked)
                feed.booked = reached
        feed.booked_at_seconds = max(feed.booked_at_seconds, at_seconds)

    def _hand_out(self, feed: Feed, users: list[int], at_seconds: float, reached: int) -> None:
        """Give the running engines what the time since the last look cost, and a correction of what nobody else pays.

        After power has fallen the books are ahead of the counter. They let it catch up by and by, for an engine that
        runs never does so for nothing.
        """
        began_at_seconds = min(feed.booked_at_seconds, at_seconds)
        before = feed.track.estimate_microjoules(began_at_seconds) if began_at_seconds >= 0 else feed.booked
        if feed.residual is None:
            feed.residual = before - feed.booked
        spent = max(0, reached - before)
        taken = max(int(_LEAST_PACE * spent), spent + feed.residual)
        feed.residual += spent - taken
        feed.booked += taken
        for place, engine in enumerate(users):
            feed.ledger.hand_out(engine, _part(taken, place, len(users)))
            if feed.track.is_telling:
                own = _part(spent, place, len(users))
                self._note_draw(
                    engine, Draw(feed, began_at_seconds, at_seconds, place, len(users), own, feed.generation)
                )

    def _note_draw(self, engine: int, draw: Draw) -> None:
        """Keep what the engine was given; stretches that follow on each other, as while others step, become one."""
        draws = self._draws.setdefault(engine, [])
        for last in draws:
            if draw.continues(last):
                last.ended_at_seconds = draw.ended_at_seconds
                last.microjoules += draw.microjoules
                return
        draws.append(draw)

    def draws_of(self, engine: int) -> list[Draw]:
        """What the engine was given since this was last asked: for one step, whose end has just come."""
        return self._draws.pop(engine, [])

    @staticmethod
    def correct(draws: Sequence[Draw], dues: Sequence[int], made: int) -> None:
        """Of the corrections that were due for a step's draws from one component's counters, so much could be made."""
        left, wanted = made, sum(dues)
        for draw, due in zip(draws, dues, strict=True):
            part = left if draw is draws[-1] else (due * made // wanted if wanted else 0)
            draw.feed.ledger.assigned += part
            left -= part
            draw.feed.booked += part
            if draw.feed.residual is not None:
                draw.feed.residual += due - part

    def _book_stray(self, feed: Feed, account: str, at_seconds: float) -> None:
        """A counter that was silent tells of energy whose owners nobody can know any more."""
        stray = feed.track.stray_microjoules
        energy = min(stray - feed.stray_booked, feed.track.confirmed_microjoules() - feed.booked)
        feed.stray_booked = stray
        self._note_blind(feed, at_seconds)
        if energy > 0:
            feed.booked += energy
            feed.ledger.spend(account, energy)
