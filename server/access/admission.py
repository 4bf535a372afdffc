"""One admitted request, from its admission to the booking of what it cost."""

from collections.abc import Callable

from metering.counter import MICROJOULES_PER_JOULE
from server.access.limit_headers import limit_headers
from server.access.tenant_account import TenantAccount
from server.access.tenants import Tenant
from server.asgi import Headers


class Admission:
    """A place among a tenant's concurrent requests, held until `settle`.

    `tier` is the scheduler's name of the tier the request gets. `remaining_energy_joules` is what the tightest budget
    had left at admission, None without a budget: a cap of as much keeps the request from overspending on its own.
    """

    __slots__ = (
        "_account",
        "_clock",
        "_energy_is_missing",
        "_is_charged",
        "_is_settled",
        "_taken_at_seconds",
        "_taken_tokens",
        "_unix_clock",
        "remaining_energy_joules",
        "tenant",
        "tier",
    )

    def __init__(
        self,
        account: TenantAccount,
        tier: str,
        remaining_microjoules: int | None,
        taken_tokens: int | None,
        taken_at_seconds: float,
        clock: Callable[[], float],
        unix_clock: Callable[[], float],
    ) -> None:
        account.running += 1
        self._account = account
        self._clock = clock
        self._unix_clock = unix_clock
        self._taken_tokens = taken_tokens
        self._taken_at_seconds = taken_at_seconds
        self._is_settled = self._is_charged = self._energy_is_missing = False
        self.tenant: Tenant = account.tenant
        self.tier = tier
        self.remaining_energy_joules = (
            None if remaining_microjoules is None else remaining_microjoules / MICROJOULES_PER_JOULE
        )

    def headers(self) -> Headers:
        """What is left of limits and budgets now, as response headers."""
        return limit_headers(self._account, self._clock(), self._unix_clock())

    def settle(self, energy_microjoules: int | None, total_tokens: int | None) -> None:
        """Give the place back and book what the request took. Only the first call counts.

        Energy that is None counts as nothing until `charge` tells it, and is seen in `TenantUsage`. Tokens that are
        None count as estimated at admission; a request that never ran has taken 0 of both.
        """
        if self._is_settled:
            return
        self._is_settled = True
        account = self._account
        account.running -= 1
        limit = account.token_limit
        if limit is not None and self._taken_tokens is not None and total_tokens is not None:
            limit.correct(self._taken_tokens, self._taken_at_seconds, total_tokens, self._clock())
        if energy_microjoules is not None:
            account.spending.spend(energy_microjoules, self._unix_clock())
        elif not self._is_charged:
            self._energy_is_missing = True
            account.unknown_energy_requests += 1

    def charge(self, energy_microjoules: int) -> None:
        """Book energy of an aborted request, told by its worker after, or before, it was settled."""
        self._is_charged = True
        self._account.spending.spend(energy_microjoules, self._unix_clock())
        if self._energy_is_missing:
            self._energy_is_missing = False
            self._account.unknown_energy_requests -= 1
