import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.carbon.account import CarbonAccount, carbon_of
from server.carbon.grid import CarbonIntensity
from server.carbon.static import StaticGridCarbon

KNOWN = CarbonIntensity(400.0, "somebody", 600.4, None)
STALE = CarbonIntensity(None, "somebody", 9000.0, "the latest value is 2.5 h old")


def test_a_kilowatt_hour_emits_what_the_grid_says_times_the_overhead() -> None:
    assert carbon_of(3_600_000.0, KNOWN, 1.0).grams_co2eq == 400.0
    assert carbon_of(3_600_000.0, KNOWN, 1.5).grams_co2eq == 600.0
    assert carbon_of(12.345, KNOWN, 1.0).grams_co2eq == pytest.approx(0.001371667)


def test_the_block_states_the_source_and_its_age() -> None:
    assert carbon_of(3_600_000.0, KNOWN, 1.2).to_block() == {
        "carbon_g_co2eq": 480.0,
        "grid_carbon_intensity_gco2perkwhr": 400.0,
        "carbon_source": "somebody",
        "carbon_age_seconds": 600,
    }


def test_what_is_stale_is_null_with_a_reason() -> None:
    block = carbon_of(1.0, STALE, 1.0).to_block()
    assert (block["carbon_g_co2eq"], block["grid_carbon_intensity_gco2perkwhr"]) == (None, None)
    assert block["carbon_reason"] == "the latest value is 2.5 h old"


def test_what_nobody_measured_emitted_nobody_knows_what() -> None:
    block = carbon_of(None, KNOWN, 1.0).to_block()
    assert (block["carbon_g_co2eq"], block["grid_carbon_intensity_gco2perkwhr"]) == (None, 400.0)
    assert block["carbon_reason"] == "the energy is not known"


def test_a_static_intensity_has_no_age() -> None:
    block = CarbonAccount(StaticGridCarbon(50.0), 1.0).of(7_200_000.0, 0.0).to_block()
    assert block == {
        "carbon_g_co2eq": 100.0,
        "grid_carbon_intensity_gco2perkwhr": 50.0,
        "carbon_source": "static",
    }


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=20), st.floats(1, 3), st.floats(0, 5000))
def test_grams_of_the_parts_are_grams_of_the_whole(joules: list[float], pue: float, gco2_per_kwh: float) -> None:
    intensity = CarbonIntensity(gco2_per_kwh, "x", None, None)
    parts = [carbon_of(part, intensity, pue).grams_co2eq for part in joules]
    whole = carbon_of(sum(joules), intensity, pue).grams_co2eq
    assert sum(part for part in parts if part is not None) == pytest.approx(whole, rel=1e-9, abs=1e-8)
    assert all(part is not None and part >= 0 for part in parts)
