"""What every `GridCarbon` must do, over every implementation there is."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from server.carbon.fetched import FetchedGridCarbon
from server.carbon.grid import MAX_GCO2_PER_KWH, CarbonIntensity, GridCarbon, unix_seconds_of
from server.carbon.providers import CarbonProvider, ElectricityMaps, UkCarbonIntensity
from server.carbon.static import StaticGridCarbon
from server.carbon.timetable import TimetableGridCarbon
from tests.local_http import serving

RECORDED = Path(__file__).parent.parent / "data" / "carbon"
STALE_AFTER_SECONDS = 7200.0
NOW = unix_seconds_of("2026-11-27T19:40:00Z")
FOR_EVER = {"static", "fake"}
Law = Callable[[GridCarbon], None]


class FakeGridCarbon:
    """The one other tests use."""

    def now(self, unix_seconds: float) -> CarbonIntensity:
        return CarbonIntensity(400.0, "fake", None, None)


def it_is_known_now(grid: GridCarbon) -> None:
    said = grid.now(NOW)
    assert said.gco2_per_kwh is not None
    assert 0 <= said.gco2_per_kwh <= MAX_GCO2_PER_KWH
    assert said.age_seconds is None or 0 <= said.age_seconds <= STALE_AFTER_SECONDS


def at_any_instant_there_is_a_value_or_a_reason(grid: GridCarbon) -> None:
    for hours in range(-2000, 2000, 7):
        said = grid.now(NOW + hours * 1800.0)
        assert (said.gco2_per_kwh is None) == (said.reason is not None)
        assert said.age_seconds is None or said.age_seconds >= 0


def its_source_fits_the_ledger(grid: GridCarbon) -> None:
    for instant in (0.0, NOW, NOW + 1e9):
        assert 0 < len(grid.now(instant).source) <= 128


def asking_changes_nothing(grid: GridCarbon) -> None:
    first = grid.now(NOW)
    grid.now(NOW + 1e6)
    assert grid.now(NOW) == first


LAWS: list[Law] = [
    it_is_known_now,
    at_any_instant_there_is_a_value_or_a_reason,
    its_source_fits_the_ledger,
    asking_changes_nothing,
]


async def made(kind: str, folder: Path) -> GridCarbon:
    match kind:
        case "fake":
            return FakeGridCarbon()
        case "static":
            return StaticGridCarbon(380.0)
        case "timetable":
            file = folder / "grid.csv"
            file.write_text("datetime,gco2eq_per_kwh\n2026-11-27T19:00:00Z,190\n2026-11-27T20:00:00Z,210\n")
            return TimetableGridCarbon(file, STALE_AFTER_SECONDS)
        case "uk":
            return await fetched(UkCarbonIntensity("13"), "uk_region.json")
        case _:
            return await fetched(ElectricityMaps("DE", "secret"), "electricity_maps.json")


async def fetched(provider: CarbonProvider, recorded: str) -> GridCarbon:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=(RECORDED / recorded).read_bytes(), content_type="application/json")

    async with serving(answer) as url, aiohttp.ClientSession() as session:
        grid = FetchedGridCarbon(provider, url, STALE_AFTER_SECONDS, lambda: NOW)
        await grid.refresh(session)
        return grid


@pytest.mark.parametrize("kind", ["fake", "static", "timetable", "uk", "electricity-maps"])
async def test_every_grid_obeys_the_laws(kind: str, tmp_path: Path) -> None:
    grid = await made(kind, tmp_path)
    for law in LAWS:
        law(grid)
    too_late = grid.now(NOW + STALE_AFTER_SECONDS + 3600.0)
    assert (too_late.gco2_per_kwh is None) == (kind not in FOR_EVER), "what is old is not passed off as new"
    assert dataclasses.is_dataclass(too_late)
