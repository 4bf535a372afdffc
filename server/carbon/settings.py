"""The `[carbon]` section: where the grid's carbon intensity comes from."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from server.secret import Secret


class CarbonSettings(BaseModel):
    """One of `intensity_gco2_per_kwh`, `file` and `provider`, or none of them: then nothing is said of carbon.

    What belongs together is checked when the grid is opened; errors of a whole section would quote the token in it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    intensity_gco2_per_kwh: float | None = Field(default=None, ge=0, le=5000, allow_inf_nan=False)
    file: Path | None = None
    provider: Literal["uk", "electricity-maps"] | None = None
    zone: str | None = None
    region: str | None = Field(default=None, coerce_numbers_to_str=True)
    token: Secret | None = None
    pue: float = Field(default=1.0, ge=1, le=10, allow_inf_nan=False)
    stale_after_seconds: float = Field(default=7200.0, gt=0, allow_inf_nan=False)
    base_url: str | None = Field(default=None, pattern=r"^https?://[^\s?#]+$")
