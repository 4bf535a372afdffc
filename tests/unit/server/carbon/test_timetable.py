from pathlib import Path

import pytest

from server.carbon.errors import CarbonFileError
from server.carbon.grid import unix_seconds_of
from server.carbon.timetable import TimetableGridCarbon, read_timetable

PORTAL = Path(__file__).parents[3] / "data" / "carbon" / "portal.csv"
HEADER = "datetime,gco2eq_per_kwh\n"


def written(folder: Path, text: str) -> Path:
    file = folder / "grid.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_row_holds_until_the_next(tmp_path: Path) -> None:
    rows = "2026-01-01T01:00:00Z,200\n2026-01-01T00:00:00+00:00,100\n2026-01-01 03:00:00+01:00,300\n"
    grid = TimetableGridCarbon(written(tmp_path, HEADER + rows), 7200.0)
    midnight = unix_seconds_of("2026-01-01T00:00Z")
    said = [grid.now(midnight + minutes * 60.0).gco2_per_kwh for minutes in (-1, 0, 59, 60, 119, 120, 239, 241)]
    assert said == [None, 100.0, 100.0, 200.0, 200.0, 300.0, 300.0, None]
    assert grid.now(midnight + 600.0).age_seconds == 600.0
    assert grid.now(midnight - 60.0).reason == "the file's times begin later"
    assert grid.now(midnight + 15000.0).reason == "the latest value is 2.2 h old"
    assert grid.now(midnight).source == "file grid.csv"


def test_a_gap_in_the_file_is_no_value_for_its_hours(tmp_path: Path) -> None:
    grid = TimetableGridCarbon(written(tmp_path, f"{HEADER}2026-01-01,100\n2026-01-03,200\n"), 7200.0)
    assert grid.now(unix_seconds_of("2026-01-02")).gco2_per_kwh is None
    assert grid.now(unix_seconds_of("2026-01-03")).gco2_per_kwh == 200.0


def test_an_export_of_electricity_maps_is_read_as_it_is() -> None:
    samples = read_timetable(PORTAL)
    assert [sample.gco2_per_kwh for sample in samples] == [331.08, 327.44, 323.9]
    assert samples[0].from_unix_seconds == unix_seconds_of("2024-06-01T00:00Z")
    assert samples[0].source == "file portal.csv (DE)"


def test_a_file_that_grew_is_taken_up_and_a_broken_one_is_not(tmp_path: Path) -> None:
    file = written(tmp_path, f"{HEADER}2026-01-01,100\n")
    grid = TimetableGridCarbon(file, 7200.0)
    file.write_text(f"{HEADER}2026-01-01,100\n2026-01-01T01:00,150\n")
    assert grid.reload() == "carbon: 2 rows of grid.csv"
    file.write_text("nonsense")
    with pytest.raises(CarbonFileError):
        grid.reload()
    assert grid.now(unix_seconds_of("2026-01-01T01:30")).gco2_per_kwh == 150.0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected the columns datetime,gco2eq_per_kwh"),
        ("time,grams\n2026-01-01,1\n", "expected the columns datetime,gco2eq_per_kwh"),
        (HEADER, "it has no rows"),
        (f"{HEADER}yesterday,1\n", "line 2: expected a time in ISO 8601 and a number"),
        (f"{HEADER}2026-01-01,much\n", "line 2: expected a time in ISO 8601 and a number"),
        (f"{HEADER}2026-01-01\n", "line 2: expected a time in ISO 8601 and a number"),
        (f"{HEADER}2026-01-01,nan\n", "line 2: expected grams per kWh, 0 to 5000"),
        (f"{HEADER}2026-01-01,1\n2026-01-02,-1\n", "line 3: expected grams per kWh, 0 to 5000"),
        (f"{HEADER}2026-01-01,1\n2026-01-01T00:00Z,2\n", "two of its rows are of the same time and differ"),
        ("datetime,gco2eq_per_kwh,zone id\n2026-01-01,1,DE\n2026-01-02,1,FR\n", "it holds more than one zone"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(CarbonFileError, match=complaint):
        read_timetable(written(tmp_path, text))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CarbonFileError, match="No such file"):
        read_timetable(tmp_path / "nowhere.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CarbonFileError):
        read_timetable(binary)
