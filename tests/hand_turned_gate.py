"""A gate on a clock that is turned by hand."""

from collections.abc import Mapping

from server.access.admission import Admission
from server.access.caller import Caller
from server.access.energy_budget import SpentSince
from server.access.gate import Gate
from server.access.key import mint
from server.access.tenants import ANONYMOUS, Tenant, TenantSettings

NOON_UNIX_SECONDS = 1_795_780_800.0  # 2026-11-27T12:00:00Z


def nothing_spent(tenant: str, since_unix_seconds: float) -> int:
    """The ledger of a server that has only just begun."""
    return 0


class HandTurnedGate:
    """Both clocks run together; `pass_seconds` turns them."""

    def __init__(
        self, tenants: Mapping[str, TenantSettings] | None = None, spent_since: SpentSince = nothing_spent
    ) -> None:
        self.elapsed_seconds = 0.0
        self.gate = Gate(tenants or {}, spent_since, self.now_seconds, self.now_unix_seconds)

    def now_seconds(self) -> float:
        return 600.0 + self.elapsed_seconds

    def now_unix_seconds(self) -> float:
        return NOON_UNIX_SECONDS + self.elapsed_seconds

    def pass_seconds(self, seconds: float) -> None:
        self.elapsed_seconds += seconds

    def make_key(self, tenant: str) -> list[tuple[bytes, bytes]]:
        """The gate's only key from now on, as request headers."""
        key, token = mint(tenant, "test", self.now_unix_seconds())
        self.gate.replace_keys([key])
        return [(b"authorization", b"Bearer " + token.encode())]

    def admit(
        self, tenant: str = ANONYMOUS, model: str = "m", tier_name: str | None = None, tokens: int = 10
    ) -> Admission:
        caller = Caller(Tenant(tenant))
        return self.gate.admit(caller, model, tier_name, tokens, self.now_seconds(), self.now_unix_seconds())

    def used(self, tenant: str = ANONYMOUS) -> tuple[int, int]:
        """Requests running, and requests of unknown energy."""
        (usage,) = (usage for usage in self.gate.usage() if usage.tenant == tenant)
        return usage.running, usage.unknown_energy_requests
