"""Which tenants have series of their own: the first so many that are seen, so that metrics pages stay bounded."""

from server.metric_catalogue import MAX_TENANTS, OTHER_TENANTS


class TenantLabels:
    """Gives out label values, for good: a tenant that has one keeps it until the server ends."""

    def __init__(self, most: int = MAX_TENANTS) -> None:
        self._most = most
        self._known: set[str] = set()

    def of(self, tenant: str) -> str:
        """The tenant's own name, or the one that all share who came after the first so many."""
        if tenant in self._known:
            return tenant
        if len(self._known) >= self._most:
            return OTHER_TENANTS
        self._known.add(tenant)
        return tenant

    def without_claim(self, tenant: str) -> str:
        """The same, for a tenant that has done nothing yet: it takes no place from those that will."""
        return tenant if tenant in self._known else OTHER_TENANTS

    def has_room_for(self, tenants: int) -> bool:
        """Whether so many could all have series of their own."""
        return tenants <= self._most
