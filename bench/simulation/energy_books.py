"""Where an engine's joules went: whole microjoules by account, whose sum is the integral of its power."""

from enum import Enum
from typing import Final

_MICROJOULES_PER_JOULE: Final = 1_000_000


class Account(Enum):
    """What energy was spent for."""

    ACTIVE = "active"
    IDLE = "idle"
    LOADING = "loading"
    PARKED = "parked"


class EnergyBooks:
    """Sums energy without drift: rounding of one posting is made up for by the next, whatever its account."""

    def __init__(self) -> None:
        self._exact_microjoules = 0.0
        self._posted_microjoules = 0
        self._by_account = dict.fromkeys(Account, 0)

    @property
    def microjoules(self) -> int:
        return self._posted_microjoules

    @property
    def microjoules_by_account(self) -> dict[Account, int]:
        return dict(self._by_account)

    def post(self, account: Account, joules: float) -> None:
        """Add `joules`, which are not negative, to an account."""
        self._exact_microjoules += joules * _MICROJOULES_PER_JOULE
        whole = round(self._exact_microjoules) - self._posted_microjoules
        self._by_account[account] += whole
        self._posted_microjoules += whole
