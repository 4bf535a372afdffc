"""What each tenant may do, as the operator writes it under `[tenants.NAME]`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from scheduler.tiers import DEFAULT, PRIORITY, TIERS
from server.errors import SettingError

ANONYMOUS: Final = "anonymous"
OTHERS: Final = "others"
_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

Tier = Literal["priority", "default", "flex"]
Count = Annotated[int, Field(ge=1, le=2**53)]
# A float holds this many microjoules exactly; a large power station makes as much in two seconds.
Joules = Annotated[float, Field(gt=0, le=9e9, allow_inf_nan=False)]


class TenantSettings(BaseModel):
    """Limits of one tenant; what is None is not limited.

    `default_tier` is what a request gets that names no tier or `auto`; a tier above `max_tier` is lowered to it.
    An administrator sees every tenant's rows and the server's own state.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    concurrent_requests: Count | None = None
    models: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None
    default_tier: Tier = DEFAULT
    max_tier: Tier = PRIORITY
    energy_joules_per_day: Joules | None = None
    energy_joules_per_month: Joules | None = None
    is_admin: bool = False

    @model_validator(mode="after")
    def _check_tiers(self) -> "TenantSettings":
        if TIERS[self.default_tier] < TIERS[self.max_tier]:
            raise ValueError(f"default_tier = {self.default_tier!r}: expected none above max_tier, {self.max_tier!r}")
        return self


UNLIMITED: Final = TenantSettings()


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whoever requests are made for."""

    name: str
    settings: TenantSettings = UNLIMITED

    def may_use(self, model: str) -> bool:
        """Whether the model is among those open to this tenant."""
        return self.settings.models is None or model in self.settings.models

    def tier(self, asked: str | None) -> str:
        """The tier for the one that was asked for, by its scheduler's name; None where the tenant's own is meant."""
        wanted = self.settings.default_tier if asked is None else asked
        return wanted if TIERS[wanted] >= TIERS[self.settings.max_tier] else self.settings.max_tier


def _check_others(tenants: Mapping[str, TenantSettings]) -> Mapping[str, TenantSettings]:
    if OTHERS in tenants and tenants[OTHERS].is_admin:
        raise ValueError(f"{OTHERS}.is_admin = true: expected false, or every tenant would be an administrator")
    return tenants


TenantName = Annotated[str, StringConstraints(pattern=_NAME)]
Tenants = Annotated[dict[TenantName, TenantSettings], AfterValidator(_check_others)]
"""The section `[tenants]`; `[tenants.others]` is for whoever has no section of their own."""


def check_tenant_name(name: str) -> str:
    """The name, if it is one.

    Raises:
        SettingError: it is none.
    """
    if not re.match(_NAME, name) or name.endswith("\n"):
        raise SettingError(f"tenant = {name!r}: expected 1 to 64 letters, digits, dots, dashes and underscores")
    return name
