"""One carbon intensity for all times: a yearly average of the country, or what a supply contract says."""

from server.carbon.grid import CarbonIntensity


class StaticGridCarbon:
    """Is of no instant, so that it has no age and never goes stale."""

    def __init__(self, gco2_per_kwh: float) -> None:
        self._intensity = CarbonIntensity(gco2_per_kwh, "static", None, None)

    def now(self, unix_seconds: float) -> CarbonIntensity:  # noqa: ARG002  # of all times
        return self._intensity
