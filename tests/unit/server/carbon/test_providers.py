import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.carbon.errors import CarbonAnswerError
from server.carbon.grid import unix_seconds_of
from server.carbon.providers import CarbonProvider, ElectricityMaps, UkCarbonIntensity

RECORDED = Path(__file__).parents[3] / "data" / "carbon"
PROVIDERS: list[CarbonProvider] = [UkCarbonIntensity(None), UkCarbonIntensity("RG10"), ElectricityMaps("DE", "t")]


def recorded(name: str) -> Any:
    return json.loads((RECORDED / name).read_bytes())


def test_great_britain_is_told_by_the_half_hour() -> None:
    sample = UkCarbonIntensity(None).read((RECORDED / "uk_national.json").read_bytes())
    assert (sample.gco2_per_kwh, sample.source) == (187.0, "UK Carbon Intensity (national), actual")
    assert sample.from_unix_seconds == unix_seconds_of("2026-11-27T19:30Z")
    assert sample.until_unix_seconds - sample.from_unix_seconds == 1800.0


def test_where_there_is_no_actual_value_the_forecast_counts() -> None:
    answer = recorded("uk_national.json")
    answer["data"][0]["intensity"]["actual"] = None
    sample = UkCarbonIntensity(None).read(json.dumps(answer).encode())
    assert (sample.gco2_per_kwh, sample.source) == (194.0, "UK Carbon Intensity (national), forecast")


def test_regions_by_number_and_by_postcode() -> None:
    body = (RECORDED / "uk_region.json").read_bytes()
    by_number, by_postcode = UkCarbonIntensity("13"), UkCarbonIntensity("rg10")
    assert (by_number.target(), by_postcode.target()) == ("/regional/regionid/13", "/regional/postcode/RG10")
    assert by_number.read(body).gco2_per_kwh == 171.0
    assert by_number.read(body).source == "UK Carbon Intensity (region 13), forecast"
    alone = json.dumps({"data": recorded("uk_region.json")["data"][0]}).encode()
    assert by_postcode.read(alone).gco2_per_kwh == 171.0, "answers for one place also come without the list"


@pytest.mark.parametrize("region", ["0", "18", "-1", "RG10 1AA", "../intensity", "", "LONDON", "1\n"])
def test_a_region_that_is_none(region: str) -> None:
    with pytest.raises(ValueError, match="a region id from 1 to 17"):
        UkCarbonIntensity(region)


def test_a_zone_of_electricity_maps() -> None:
    provider = ElectricityMaps("DE", "secret")
    sample = provider.read((RECORDED / "electricity_maps.json").read_bytes())
    assert provider.target() == "/v3/carbon-intensity/latest?zone=DE"
    assert provider.headers() == {"auth-token": "secret"}
    assert (sample.gco2_per_kwh, sample.source) == (421.0, "Electricity Maps (DE), estimated")
    assert sample.until_unix_seconds == unix_seconds_of("2026-11-27T20:00Z")


def test_finer_zones_are_asked_more_often() -> None:
    answer = recorded("electricity_maps.json") | {"temporalGranularity": "15_minutes", "isEstimated": False}
    sample = ElectricityMaps("DE", "t").read(json.dumps(answer).encode())
    assert sample.source == "Electricity Maps (DE)"
    assert sample.until_unix_seconds - sample.from_unix_seconds == 900.0


def test_an_answer_of_another_zone_is_none() -> None:
    with pytest.raises(CarbonAnswerError, match="another zone"):
        ElectricityMaps("FR", "t").read((RECORDED / "electricity_maps.json").read_bytes())


@pytest.mark.parametrize(
    "change",
    [
        {"carbonIntensity": None},
        {"carbonIntensity": "421"},
        {"carbonIntensity": True},
        {"carbonIntensity": -1},
        {"carbonIntensity": float("nan")},
        {"carbonIntensity": 1e9},
        {"datetime": None},
        {"datetime": "now"},
    ],
)
def test_an_answer_that_makes_no_sense(change: dict[str, Any]) -> None:
    answer = recorded("electricity_maps.json") | change
    with pytest.raises(CarbonAnswerError):
        ElectricityMaps("DE", "t").read(json.dumps(answer).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["data", "intensity", "from", "to", "actual", "forecast", "zone"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=50)
@given(st.one_of(JSON.map(lambda value: json.dumps(value).encode()), st.binary(max_size=64)))
def test_whatever_comes_is_read_or_refused(body: bytes) -> None:
    for provider in PROVIDERS:
        with contextlib.suppress(CarbonAnswerError):
            assert provider.read(body).gco2_per_kwh >= 0


def test_brackets_without_end_are_refused() -> None:
    for provider in PROVIDERS:
        with pytest.raises(CarbonAnswerError):
            provider.read(b"[" * 60_000)
