"""From the `[carbon]` section to a grid that can be asked. What does not fit together is said here."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from server.carbon.account import CarbonAccount
from server.carbon.errors import CarbonFileError
from server.carbon.fetched import FetchedGridCarbon
from server.carbon.providers import (
    ELECTRICITY_MAPS_BASE_URL,
    EXPECTED_ZONE,
    UK_BASE_URL,
    CarbonProvider,
    ElectricityMaps,
    UkCarbonIntensity,
)
from server.carbon.settings import CarbonSettings
from server.carbon.static import StaticGridCarbon
from server.carbon.timetable import TimetableGridCarbon
from server.errors import SettingError


@dataclass(frozen=True, slots=True)
class OpenCarbon:
    """What requests are told, what must run beside the server for it, and how it takes up a changed file."""

    account: CarbonAccount
    run: Callable[[], Coroutine[Any, Any, None]] | None = None
    reload: Callable[[], str] | None = None


def open_carbon(settings: CarbonSettings, clock: Callable[[], float]) -> OpenCarbon | None:
    """The grid of the settings; None where none is set. Nothing is fetched yet. `clock` gives Unix seconds.

    Raises:
        SettingError: the settings contradict each other, or the file is not what it should be.
    """
    chosen = [name for name in ("intensity_gco2_per_kwh", "file", "provider") if getattr(settings, name) is not None]
    if len(chosen) > 1:
        raise SettingError(f"carbon: {' and '.join(chosen)} are set; expected one of them")
    if settings.provider is not None:
        provider, base_url = _provider(settings)
        fetched = FetchedGridCarbon(provider, base_url, settings.stale_after_seconds, clock)
        return OpenCarbon(CarbonAccount(fetched, settings.pue), run=fetched.run)
    for name in ("zone", "region", "token", "base_url"):
        if getattr(settings, name) is not None:
            raise SettingError(f"carbon.{name}: it belongs to a carbon.provider, and none is set")
    if settings.file is not None:
        timetable = _timetable(settings)
        return OpenCarbon(CarbonAccount(timetable, settings.pue), reload=lambda: _reloaded(timetable, settings))
    if settings.intensity_gco2_per_kwh is None:
        return None
    return OpenCarbon(CarbonAccount(StaticGridCarbon(settings.intensity_gco2_per_kwh), settings.pue))


def _timetable(settings: CarbonSettings) -> TimetableGridCarbon:
    assert settings.file is not None
    try:
        return TimetableGridCarbon(settings.file, settings.stale_after_seconds)
    except CarbonFileError as error:
        raise _bad_file(settings, error) from error


def _reloaded(timetable: TimetableGridCarbon, settings: CarbonSettings) -> str:
    try:
        return timetable.reload()
    except CarbonFileError as error:
        raise _bad_file(settings, error) from error


def _bad_file(settings: CarbonSettings, error: CarbonFileError) -> SettingError:
    return SettingError(f"carbon.file = {str(settings.file)!r}: {error}")


def _provider(settings: CarbonSettings) -> tuple[CarbonProvider, str]:
    if settings.provider == "uk":
        for name in ("zone", "token"):
            if getattr(settings, name) is not None:
                raise SettingError(f"carbon.{name}: the provider uk knows none; it takes a region")
        try:
            return UkCarbonIntensity(settings.region), settings.base_url or UK_BASE_URL
        except ValueError as error:
            raise SettingError(f"carbon.region = {settings.region!r}: expected {error}") from error
    if settings.region is not None:
        raise SettingError("carbon.region: the provider electricity-maps takes a zone")
    if settings.zone is None:
        raise SettingError(f"carbon.zone is not set: expected {EXPECTED_ZONE}")
    token = settings.token.get_secret_value() if settings.token is not None else ""
    # A line break in it would be refused by the HTTP client only at the first question, with the token in the message.
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise SettingError("carbon.token: expected the token of an Electricity Maps account, printable and not empty")
    try:
        return ElectricityMaps(settings.zone, token), settings.base_url or ELECTRICITY_MAPS_BASE_URL
    except ValueError as error:
        raise SettingError(f"carbon.zone = {settings.zone!r}: expected {error}") from error
