"""Tenants' limits, budgets and models as the file has them now, taken up while the server runs."""

from server.access.gate import Gate
from server.settings import Settings


class TenantReload:
    """A `ReloadHook`. What tenants have spent and have in flight stays counted."""

    def __init__(self, gate: Gate, running: Settings) -> None:
        self._gate = gate
        self._tenants = running.tenants

    def __call__(self, found: Settings) -> str:
        before, after = self._tenants, found.tenants
        changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
        if not changed:
            return ""
        self._gate.replace_tenants(after)
        self._tenants = after
        return f"tenants changed: {', '.join(changed)}"
