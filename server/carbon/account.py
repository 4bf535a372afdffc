"""From joules to grams. Pure but for the grid that is asked."""

from dataclasses import dataclass
from typing import Any

from metering.block import JOULES_PER_KILOWATT_HOUR
from server.carbon.grid import CarbonIntensity, GridCarbon


@dataclass(frozen=True, slots=True)
class RequestCarbon:
    """What one request emitted; None with a `reason` where it is not known.

    `gco2_per_kwh` is the grid's, before the data centre's overhead is counted in.
    """

    grams_co2eq: float | None
    gco2_per_kwh: float | None
    source: str
    age_seconds: float | None
    reason: str | None

    def to_block(self) -> dict[str, Any]:
        """Its fields of the energy block, named as energy-aware clients already read them."""
        fields: dict[str, Any] = {
            "carbon_g_co2eq": self.grams_co2eq,
            "grid_carbon_intensity_gco2perkwhr": self.gco2_per_kwh,
            "carbon_source": self.source,
        }
        if self.age_seconds is not None:
            fields["carbon_age_seconds"] = round(self.age_seconds)
        if self.reason is not None:
            fields["carbon_reason"] = self.reason
        return fields


def carbon_of(energy_joules: float | None, intensity: CarbonIntensity, pue: float) -> RequestCarbon:
    """The formula is kWh × PUE × gCO2eq/kWh.

    PUE, power usage effectiveness, is the energy of the whole facility over that of its IT equipment, at least 1 (The
    Green Grid, white paper 49, 2012; ISO/IEC 30134-2). The meters see IT equipment only.
    """
    grams, reason = None, intensity.reason
    if energy_joules is None:
        reason = reason or "the energy is not known"
    elif intensity.gco2_per_kwh is not None:
        # Nine decimals are a nanogram, under what one microjoule emits from the dirtiest grid.
        grams = round(energy_joules / JOULES_PER_KILOWATT_HOUR * pue * intensity.gco2_per_kwh, 9)
    return RequestCarbon(grams, intensity.gco2_per_kwh, intensity.source, intensity.age_seconds, reason)


class CarbonAccount:
    """Tells what requests emit, at one place with one PUE."""

    def __init__(self, grid: GridCarbon, pue: float) -> None:
        self._grid = grid
        self._pue = pue

    def of(self, energy_joules: float | None, unix_seconds: float) -> RequestCarbon:
        """What a request that ends now has emitted."""
        return carbon_of(energy_joules, self._grid.now(unix_seconds), self._pue)

    def grid_at(self, unix_seconds: float) -> CarbonIntensity:
        """The grid's own carbon intensity, as far as it is known then."""
        return self._grid.now(unix_seconds)
