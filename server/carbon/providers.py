"""What is asked of each provider of live carbon intensities, and how its answers are read. No I/O here.

Formats: https://carbon-intensity.github.io/api-definitions/ and https://app.electricitymaps.com/docs.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Protocol
from urllib.parse import quote

from server.carbon.errors import CarbonAnswerError
from server.carbon.grid import GridSample, is_plausible, unix_seconds_of

UK_BASE_URL: Final = "https://api.carbonintensity.org.uk"
ELECTRICITY_MAPS_BASE_URL: Final = "https://api.electricitymaps.com"
EXPECTED_UK_REGION: Final = "a region id from 1 to 17, or the outward part of a postcode such as RG10"
EXPECTED_ZONE: Final = "one of the zones of /v3/zones, such as DE or US-CAL-CISO"

_UK_REGION_IDS: Final = range(1, 18)
_OUTWARD_CODE: Final = re.compile(r"^[A-Z]{1,2}[0-9][0-9A-Z]?$")
_ZONE: Final = re.compile(r"^[A-Z0-9]+(-[A-Z0-9]+)*$")
_GRANULARITY_SECONDS: Final[Mapping[str, float]] = {"5_minutes": 300.0, "15_minutes": 900.0, "hourly": 3600.0}


class CarbonProvider(Protocol):
    """Someone who tells the present carbon intensity of one place over HTTP."""

    source: str

    def target(self) -> str:
        """Path and query of the question."""
        ...

    def headers(self) -> Mapping[str, str]: ...

    def read(self, body: bytes) -> GridSample:
        """The answer's meaning.

        Raises:
            CarbonAnswerError: it has none.
        """
        ...


class UkCarbonIntensity:
    """National Energy System Operator's Carbon Intensity API for Great Britain: half hours, no key.

    National values are estimated actuals where there are any, forecasts otherwise; regional ones are always forecasts.

    Raises:
        ValueError: `region` is none.
    """

    def __init__(self, region: str | None) -> None:
        if region is None:
            place, self._target = "national", "/intensity"
        elif region.isascii() and region.isdigit() and int(region) in _UK_REGION_IDS:
            place, self._target = f"region {int(region)}", f"/regional/regionid/{int(region)}"
        elif _OUTWARD_CODE.match(region.upper()):
            place, self._target = region.upper(), f"/regional/postcode/{region.upper()}"
        else:
            raise ValueError(EXPECTED_UK_REGION)
        self.source = f"UK Carbon Intensity ({place})"

    def target(self) -> str:
        return self._target

    def headers(self) -> Mapping[str, str]:
        return {}

    def read(self, body: bytes) -> GridSample:
        period = _first(_json(body).get("data"))
        if "data" in period:  # regional answers hold their periods one level down
            period = _first(period["data"])
        intensity = period.get("intensity")
        if not isinstance(intensity, dict):
            raise CarbonAnswerError("the answer has no intensity")
        actual, kind = intensity.get("actual"), "actual"
        if actual is None:
            actual, kind = intensity.get("forecast"), "forecast"
        begin, end = _instant(period.get("from")), _instant(period.get("to"))
        if end <= begin:
            raise CarbonAnswerError("the answer's period ends before it begins")
        return GridSample(_grams(actual), f"{self.source}, {kind}", begin, end)


class ElectricityMaps:
    """Electricity Maps' average life-cycle intensity of a zone: a token by header, mostly hours.

    Raises:
        ValueError: `zone` is none.
    """

    def __init__(self, zone: str, token: str) -> None:
        if not _ZONE.match(zone):
            raise ValueError(EXPECTED_ZONE)
        self.source = f"Electricity Maps ({zone})"
        self._zone = zone
        self._token = token

    def target(self) -> str:
        return f"/v3/carbon-intensity/latest?zone={quote(self._zone)}"

    def headers(self) -> Mapping[str, str]:
        return {"auth-token": self._token}

    def read(self, body: bytes) -> GridSample:
        answer = _json(body)
        if answer.get("zone", self._zone) != self._zone:
            raise CarbonAnswerError("the answer is of another zone")
        kind = ", estimated" if answer.get("isEstimated") is True else ""
        begin = _instant(answer.get("datetime"))
        lasting_seconds = _GRANULARITY_SECONDS.get(str(answer.get("temporalGranularity")), 3600.0)
        return GridSample(_grams(answer.get("carbonIntensity")), self.source + kind, begin, begin + lasting_seconds)


def _json(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise CarbonAnswerError("the answer is no JSON") from error
    if not isinstance(answer, dict):
        raise CarbonAnswerError("the answer is no JSON object")
    return answer


def _first(items: object) -> dict[str, Any]:
    """The first of a list, or an object that stands alone, as answers for a range of times do."""
    item = items[0] if isinstance(items, list) and items else items
    if not isinstance(item, dict):
        raise CarbonAnswerError("the answer holds no period")
    return item


def _grams(value: object) -> float:
    if not is_plausible(value):
        raise CarbonAnswerError("the answer's intensity is no number of grams per kWh")
    assert isinstance(value, int | float)
    return float(value)


def _instant(value: object) -> float:
    try:
        return unix_seconds_of(value) if isinstance(value, str) else _no_instant()
    except ValueError as error:
        raise CarbonAnswerError("the answer's time is none in ISO 8601") from error


def _no_instant() -> float:
    raise ValueError("no text")
