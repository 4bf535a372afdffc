"""Where the counters' energy goes as it comes in: to the engines that are running, or to idle or loading.

Each counter serves one or several engines: the boards of a data-parallel rank that rank, a CPU package all of them.
While some of its engines run, its energy is theirs, in equal parts; while none does, it is idle or loading. What a
counter is ahead of or behind the books is evened out by what it tells next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from metering.ledger import ComponentLedger
from metering.track import CounterTrack

# Of what a counter tells, booked while the books that ran ahead of it wait for it to catch up.
_LEAST_PACE: Final = 0.5


@dataclass(slots=True)
class Feed:
    """One counter, the ledger it feeds, and how much of it is booked."""

    track: CounterTrack
    ledger: ComponentLedger
    engines: tuple[int, ...]
    booked: int = 0
    booked_at_seconds: float = float("-inf")
    stray_booked: int = 0


class EnergySupply:
    """Books what the counters tell, exactly once."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = tuple(feeds)
        self.last_blind_at_seconds = float("-inf")
        """When a counter last did not tell what was spent."""

    def draw(self, at_seconds: float, engine: int, busy: frozenset[int], rest_account: str) -> None:
        """Book the energy, up to `at_seconds`, of the counters that serve `engine`, which has a step to account for.

        It goes to those of their engines that are `busy`, or to `rest_account`.
        """
        for feed in self._feeds:
            if engine in feed.engines:
                self._book(feed, at_seconds, feed.track.estimate_microjoules(at_seconds), busy, rest_account)

    def rest(self, at_seconds: float, busy: frozenset[int], rest_account: str) -> None:
        """Book what the counters of engines that are not `busy` have confirmed by now."""
        for feed in self._feeds:
            if busy.isdisjoint(feed.engines):
                self._book(feed, at_seconds, feed.track.confirmed_microjoules(), busy, rest_account)

    def _book(self, feed: Feed, at_seconds: float, reached: int, busy: frozenset[int], rest_account: str) -> None:
        track = feed.track
        users = [engine for engine in feed.engines if engine in busy]
        if track.is_blind(at_seconds):
            self.last_blind_at_seconds = at_seconds
        if track.stray_microjoules != feed.stray_booked:
            self._book_stray(feed, "unattributed" if users else rest_account, at_seconds)
        if users and feed.booked_at_seconds < at_seconds:
            # After power has fallen the books are ahead of the counter. They let it catch up by and by, for an
            # engine that runs never does so for nothing.
            spent = reached - track.estimate_microjoules(feed.booked_at_seconds)
            reached = max(reached, feed.booked + int(_LEAST_PACE * spent))
        feed.booked_at_seconds = max(feed.booked_at_seconds, at_seconds)
        rise = reached - feed.booked
        if rise <= 0:
            return
        feed.booked = reached
        if users:
            self._hand_out(feed, users, rise)
        else:
            feed.ledger.spend(rest_account, rise)

    def _book_stray(self, feed: Feed, account: str, at_seconds: float) -> None:
        """A counter that was silent tells of energy whose owners nobody can know any more."""
        stray = feed.track.stray_microjoules
        energy = min(stray - feed.stray_booked, feed.track.confirmed_microjoules() - feed.booked)
        feed.stray_booked = stray
        self.last_blind_at_seconds = at_seconds
        if energy > 0:
            feed.booked += energy
            feed.ledger.spend(account, energy)

    @staticmethod
    def _hand_out(feed: Feed, users: list[int], energy: int) -> None:
        share, rest = divmod(energy, len(users))
        for position, engine in enumerate(users):
            feed.ledger.hand_out(engine, share + (1 if position < rest else 0))
