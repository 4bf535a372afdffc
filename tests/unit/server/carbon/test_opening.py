from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from server.carbon.opening import OpenCarbon, open_carbon
from server.carbon.settings import CarbonSettings
from server.errors import SettingError

TOKEN = "s3cr3t-token"


def opened(**settings: Any) -> OpenCarbon | None:
    return open_carbon(CarbonSettings(**settings), lambda: 0.0)


def test_nothing_set_is_nothing_told() -> None:
    assert opened() is None


def test_a_static_intensity_needs_nothing_to_run() -> None:
    carbon = opened(intensity_gco2_per_kwh=100, pue=2)
    assert carbon is not None
    assert (carbon.run, carbon.reload) == (None, None)
    assert carbon.account.of(3_600_000.0, 0.0).grams_co2eq == 200.0


def test_a_file_can_be_read_again(tmp_path: Path) -> None:
    file = tmp_path / "grid.csv"
    file.write_text("datetime,gco2eq_per_kwh\n1970-01-01,100\n")
    carbon = opened(file=file)
    assert carbon is not None
    assert carbon.reload is not None
    assert carbon.reload() == "carbon: 1 rows of grid.csv"
    file.unlink()
    with pytest.raises(SettingError, match=r"carbon\.file = .*grid\.csv': No such file"):
        carbon.reload()


def test_providers_run_beside_the_server() -> None:
    for settings in (
        {"provider": "uk"},
        {"provider": "uk", "region": 13},
        {"provider": "electricity-maps", "zone": "US-CAL-CISO", "token": TOKEN},
    ):
        carbon = opened(**settings)
        assert carbon is not None
        assert carbon.run is not None
        assert carbon.account.of(1.0, 0.0).reason == "no value yet: the first is being fetched"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"provider": "uk", "intensity_gco2_per_kwh": 1}, "carbon: intensity_gco2_per_kwh and provider are set"),
        ({"provider": "uk", "zone": "GB"}, "carbon.zone: the provider uk knows none"),
        ({"provider": "uk", "token": TOKEN}, "carbon.token: the provider uk knows none"),
        ({"provider": "uk", "region": "London"}, "carbon.region = 'London': expected a region id from 1 to 17"),
        ({"provider": "electricity-maps", "token": TOKEN}, "carbon.zone is not set: expected one of the zones"),
        ({"provider": "electricity-maps", "zone": "DE"}, "carbon.token: expected the token"),
        ({"provider": "electricity-maps", "zone": "DE", "token": f"{TOKEN}\n"}, "carbon.token: expected the token"),
        ({"provider": "electricity-maps", "zone": "d e", "token": TOKEN}, "carbon.zone = 'd e': expected one of"),
        ({"provider": "electricity-maps", "region": "13", "token": TOKEN}, "carbon.region: the provider"),
        ({"intensity_gco2_per_kwh": 1, "token": TOKEN}, "carbon.token: it belongs to a carbon.provider"),
        ({"file": "/no/such/file.csv"}, "carbon.file = '/no/such/file.csv': No such file"),
    ],
)
def test_what_does_not_fit_together(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingError) as caught:
        opened(**settings)
    assert str(caught.value).startswith(complaint)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"pue": 0.9},
        {"pue": float("nan")},
        {"intensity_gco2_per_kwh": -1},
        {"provider": "watttime"},
        {"stale_after_seconds": 0},
        {"base_url": "ftp://x"},
        {"unknown": 1},
    ],
)
def test_a_value_that_is_wrong(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        CarbonSettings(**settings, token=TOKEN)
    assert all(TOKEN not in repr(problem) for problem in caught.value.errors() if problem["loc"] != ())


def test_the_token_is_not_shown() -> None:
    assert TOKEN not in repr(CarbonSettings(provider="electricity-maps", zone="DE", token=TOKEN))
    assert "12345" not in repr(CarbonSettings(token=12345))
