"""All that changes about one tenant while the server runs: what is in flight, was counted, was spent."""

from collections import Counter
from enum import StrEnum

from server.access.energy_budget import EnergySpending
from server.access.rate_window import RateLimit, WindowStorage
from server.access.tenants import UNLIMITED, Tenant, TenantSettings


class Refusal(StrEnum):
    """Why a request was not admitted."""

    MODEL = "model_not_allowed"
    CONCURRENCY = "concurrent_requests"
    REQUESTS = "requests_per_minute"
    TOKENS = "tokens_per_minute"
    ENERGY = "energy_budget"


class TenantAccount:
    """A tenant's running requests, limits and spending. Counts outlive a change of the limits."""

    __slots__ = (
        "_storage",
        "refusals",
        "request_limit",
        "running",
        "spending",
        "tenant",
        "token_limit",
        "unknown_energy_requests",
    )

    def __init__(self, name: str, spending: EnergySpending, storage: WindowStorage) -> None:
        self._storage = storage
        self.tenant = Tenant(name)
        self.spending = spending
        self.running = 0
        self.refusals: Counter[Refusal] = Counter()
        self.unknown_energy_requests = 0
        self.request_limit: RateLimit | None = None
        self.token_limit: RateLimit | None = None
        self.adopt(UNLIMITED)

    def adopt(self, settings: TenantSettings) -> None:
        """Go by these settings from now on."""
        self.tenant = Tenant(self.tenant.name, settings)
        self.request_limit = self._limit("requests", settings.requests_per_minute)
        self.token_limit = self._limit("tokens", settings.tokens_per_minute)
        self.spending.limit(settings)

    def _limit(self, kind: str, amount: int | None) -> RateLimit | None:
        if amount is None:
            return None
        return RateLimit(self._storage, f"{kind}/{self.tenant.name}", amount)
