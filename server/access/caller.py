"""Who asks."""

from dataclasses import dataclass

from server.access.tenants import Tenant
from server.api_error import ApiError


@dataclass(frozen=True, slots=True)
class Caller:
    """The tenant a request is made for and the key it was made with; None where no key is needed.

    Without keys everybody is an administrator, as everybody is who can reach the server.
    """

    tenant: Tenant
    key_id: str | None = None

    @property
    def is_admin(self) -> bool:
        return self.key_id is None or self.tenant.settings.is_admin

    def require_admin(self) -> None:
        """Go on if the caller may see what is the server's.

        Raises:
            ApiError: 403.
        """
        if not self.is_admin:
            raise ApiError(403, "this is open to keys of an administrating tenant only", "admin_required")

    def may_see(self, tenant: str) -> bool:
        """Whether rows of that tenant are this caller's to read."""
        return self.is_admin or tenant == self.tenant.name
