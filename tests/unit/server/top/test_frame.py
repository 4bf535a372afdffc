"""Frames at every size: what matters fits, what is not known says so."""

import pytest

from server.top.frame import notice_line, overview, page, table_lines, title_line
from server.top.live_body import read_live_body
from server.top.state import TopState
from server.top.tables import grid_of
from tests.live_body import live_body, live_request, live_worker

URL = "http://127.0.0.1:8000"


def shown(**changes: object) -> TopState:
    return TopState().received(read_live_body(live_body(**changes)))


@pytest.mark.parametrize("size", [(80, 21), (120, 33), (40, 10), (200, 60), (20, 3)])
def test_a_frame_is_no_larger_than_its_place(size: tuple[int, int]) -> None:
    width, height = size
    lines = overview(shown(), width, height).plain.split("\n")
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width


def test_the_small_frame_has_power_accounts_queue_and_workers() -> None:
    text = overview(shown(), 80, 21).plain
    for words in (
        "Power 329 W",
        "0.079 J/token now",
        "decode",
        "54 %",
        "2 default 7 flex",
        "p99 610 ms of 1 s",
        "vllm-0",
    ):
        assert words in text


def test_the_large_one_has_requests_too() -> None:
    text = overview(shown(), 120, 33).plain
    assert "req-00" in text
    assert "gpu 288 W cpu 41.0 W" in text


def test_more_workers_than_fit_are_counted() -> None:
    workers = [live_worker(f"w-{number}") for number in range(50)]
    text = overview(shown(workers=workers), 80, 21).plain
    assert text.rstrip().endswith("more")
    assert "… 44 more" in text


def test_what_is_not_known_is_a_question_mark_with_its_reason() -> None:
    text = overview(shown(power_watts={}, reason="vllm-0: no counter", in_flight_joules=None), 80, 21).plain
    assert "Power ?" in text
    assert "not known: vllm-0: no counter" in text
    assert "in flight    ···" in text
    nothing = overview(shown(power_watts={}, workers=[], joules_per_output_token={}, accounts_joules={}), 120, 33).plain
    assert "not known: there is no worker" in nothing
    assert "Energy ? in the last minute, ? since the start" in nothing
    partly = overview(shown(reason="vllm-1: it told none"), 120, 33).plain
    assert "not the whole: vllm-1: it told none" in partly


def test_an_unknown_worker_has_no_zeros_and_its_row_says_why() -> None:
    row = grid_of(shown(), "workers").rows[1]
    by_name = dict(zip([column.name for column in grid_of(shown(), "workers").columns], row.cells, strict=True))
    assert [by_name[name].text for name in ("power", "J/token", "tokens/s", "energy", "meter")] == ["?"] * 5
    assert row.detail == "vllm-1: no power is known; energy not known: the worker has not reported yet"


def test_a_worker_that_makes_no_tokens_has_no_joules_for_each() -> None:
    idle = shown(workers=[live_worker("a", output_tokens_per_second=0.0)])
    assert [cell.text for cell in grid_of(idle, "workers").rows[0].cells][6] == "–"


def test_requests_come_latest_first_and_tenants_by_what_they_used() -> None:
    unknown = live_request(0, energy_joules=None, reason="its worker has not told yet", request_id="x" * 40)
    state = shown(recent_requests=[live_request(3), unknown])
    rows = grid_of(state, "requests").rows
    assert [row.cells[0].text for row in rows] == ["1 s", "7 s"]
    assert rows[0].cells[1].text == "x" * 23 + "…"
    assert rows[0].detail.endswith("energy not known: its worker has not told yet")
    by_age = grid_of(state.sorted_by("requests", "ago"), "requests").rows
    assert [row.cells[0].text for row in by_age] == ["1 s", "7 s"]
    tenants = grid_of(state, "tenants").rows
    assert [row.key for row in tenants] == ["zoo", "acme", "new"]
    assert tenants[1].cells[-1].text == "5 % of the day's"
    assert tenants[1].cells[-1].style == "warn"
    assert [cell.text for cell in tenants[2].cells[3:]] == ["?", "?", "–", "none"]


def test_the_title_says_whether_it_is_measured() -> None:
    assert "measured (nvml+rapl)" in title_line(shown(), URL, 80).plain
    assert "up 1 h 02 min" in title_line(shown(), URL, 80).plain
    assert "not measured (estimate)" in title_line(shown(measured=False, sources=["estimate"]), URL, 80).plain
    assert "energy not known" in title_line(shown(measured=False, sources=[]), URL, 80).plain


def test_notices() -> None:
    assert notice_line(shown(), 0.0) is None
    lost = notice_line(shown().lost("connection refused", 10.0).filtered("flex").paused(), 75.0)
    assert lost is not None
    for words in ("No answer for 1 min: connection refused", "Paused", "Rows with “flex”"):
        assert words in lost.plain


def test_a_page_has_everything_and_no_blanks_at_the_ends_of_lines() -> None:
    text = page(shown(), URL, 120).plain
    for words in ("Workers", "Requests", "Tenants", "… 11 more", "budget left", "Energy by account 10.0 kJ"):
        assert words in text
    assert not [line for line in text.split("\n") if line != line.rstrip()]


def test_wide_characters_keep_the_columns_apart() -> None:
    state = shown(recent_requests=[live_request(0, tenant="統合"), live_request(1, tenant="統合テスト")])
    lines = table_lines(grid_of(state, "requests"), 120, 10)
    assert len({line.cell_len for line in lines}) == 1
