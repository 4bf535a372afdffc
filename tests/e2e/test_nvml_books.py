"""What two hundred callers were told, and all that no caller owns, is what a board's own books say its counter showed.

A real engine on the CPU, metered by the NVML stand-in: a board whose power swings, whose counter refreshes ten times a
second, and is reset in the middle of the load. The board has books of its own, of what it spent and what it showed.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.e2e.billed_load import REQUESTS, Bills, planned_requests, send
from tests.e2e.conftest import StartServer
from tests.e2e.figures import show
from tests.e2e.wattline_process import (
    REQUEST_ACCOUNTS,
    WattlineProcess,
    counter_microjoules,
    parts_microjoules,
)
from tests.nvml_stand_in import NvmlStandIn
from tests.nvml_stand_in.books import BoardBooks

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

SWINGING_BOARD: Final = (
    "uuid=GPU-books name=Swinging period_seconds=0.1 phase_seconds=0.037 "
    "power_watts=0:180,0.9:430,0.9:260,2.1:610,2.4:95,3.2:95,3.2:350,4:180 wobble_ratio=0.15 wobble_seconds=0.03"
)
RATIO_OF_THE_LAW: Final = 1e-4
RATIO_UNATTRIBUTED: Final = 0.01
# Either side of the reset, a request whose energy is not known may blame it.
BLAME_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Settled:
    """The engine's report and the board's books of one instant, with nothing running or owed."""

    report: dict[str, Any]
    board: BoardBooks

    @property
    def accounts(self) -> dict[str, int]:
        (accounts,) = self.report["accounts_microjoules"].values()
        return dict(accounts)


@pytest.fixture
def stand_in(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> NvmlStandIn:
    """A driver for the processes this test starts. Its board draws nothing until the meter has begun to look."""
    built = NvmlStandIn(tmp_path)
    built.script("uuid=GPU-books power_watts=0")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(built.library_directory))
    return built


async def test_bills_and_accounts_are_what_the_board_displayed(
    checkpoint: Any, stand_in: NvmlStandIn, start_server: StartServer
) -> None:
    server = start_server("--meter", "nvml", "--device", "cpu")
    wait(lambda: bool(boards_of(server, stand_in)), 120, "the meter has not looked at the board")
    stand_in.script(SWINGING_BOARD)
    show(f"server ready after {server.wait_ready():.1f} s")

    before = settled(server, stand_in)
    bills, reset_at_seconds, seconds = await load_with_reset(server, stand_in)
    after = settled(server, stand_in)

    assert after.board.resets == 1
    assert after.report["counter_epochs"] - before.report["counter_epochs"] == 1
    check_blocks(bills, reset_at_seconds)
    charges = charges_of_left(bills, after.report)
    grown = {name: after.accounts[name] - before.accounts[name] for name in after.accounts}
    displayed = after.board.displayed_microjoules - before.board.displayed_microjoules
    billed = sum(answer.microjoules or 0 for answer in bills.answers)
    withheld = charged_without_a_figure(bills, after.report)
    aborted = difference(before, after, "aborted")
    unowned = grown["idle"] + grown["loading"] + grown["unattributed"]
    active = sum(grown[name] for name in REQUEST_ACCOUNTS) + grown["unattributed"]
    show_figures(before, after, bills, grown, billed=billed, withheld=withheld, aborted=aborted, seconds=seconds)
    show("charged for each in joules: " + ", ".join(f"{charge / 1e6:.3f}" for charge in charges))

    assert sum(charges) == aborted
    assert billed + withheld == difference(before, after, "completed")
    assert billed + withheld + aborted + unowned == pytest.approx(displayed, rel=RATIO_OF_THE_LAW)
    assert sum(after.accounts.values()) == pytest.approx(after.board.displayed_microjoules, rel=RATIO_OF_THE_LAW)
    assert grown["unattributed"] < RATIO_UNATTRIBUTED * active
    assert all(value >= 0 for value in grown.values())
    assert not [answer for answer in bills.answers if answer.microjoules == 0], (
        "every answer took work, and work energy"
    )


async def load_with_reset(server: WattlineProcess, stand_in: NvmlStandIn) -> tuple[Bills, float, float]:
    """Send the requests and reset the counter when half of them have ended; the law is checked all the while.

    Returns the bills, the instant of the reset, and how long the load took.
    """
    bills, started = Bills(), time.monotonic()
    reset_at_seconds = 0.0

    async def reset_midway() -> None:
        nonlocal reset_at_seconds
        await bills.half_ended.wait()
        reset_at_seconds = time.monotonic() + 0.1
        stand_in.script(SWINGING_BOARD, f"at {reset_at_seconds} gpu=0 resets=1")

    async def check_law() -> None:
        while bills.ended < REQUESTS:
            report = await asyncio.to_thread(server.worker_energy)
            assert parts_microjoules(report) == counter_microjoules(report)
            await asyncio.sleep(0.3)

    async with asyncio.TaskGroup() as group:
        group.create_task(reset_midway())
        group.create_task(check_law())
        group.create_task(send(server.url, planned_requests(), bills))
    return bills, reset_at_seconds, time.monotonic() - started


def check_blocks(bills: Bills, reset_at_seconds: float) -> None:
    """Every answer says a measured number, or why there is none, where the reset can be why."""
    assert bills.ended == REQUESTS
    for answer in bills.answers:
        energy = answer.energy
        if answer.microjoules is None:
            assert energy["reason"]
            assert answer.started_at_seconds - BLAME_SECONDS < reset_at_seconds
            assert reset_at_seconds < answer.ended_at_seconds + BLAME_SECONDS
        else:
            assert (energy["measured"], energy["source"]) == (True, "nvml")
            parts = energy["prefill_joules"] + energy["decode_joules"]
            assert parts == pytest.approx(energy["energy_joules"], abs=1e-6)


def charged_without_a_figure(bills: Bills, report: dict[str, Any]) -> int:
    """What the meter booked to requests whose callers were told null, with the reason."""
    unknown = {answer.request_id for answer in bills.answers if answer.microjoules is None}
    recent = [request for request in report["recent_requests"] if request["request_id"] in unknown]
    return sum(request["prefill_microjoules"] + request["decode_microjoules"] for request in recent)


def charges_of_left(bills: Bills, report: dict[str, Any]) -> list[int]:
    """What each request that was given up was charged; nothing only where its caller left before the first token."""
    charged = {
        request["request_id"]: request["prefill_microjoules"] + request["decode_microjoules"]
        for request in report["recent_aborts"]
    }
    for request in bills.left:
        assert request.leave is not None
        if request.leave.after_events is not None:
            assert charged[request.request_id] > 0
    return [charged.get(request.request_id, 0) for request in bills.left]


def difference(before: Settled, after: Settled, outcome: str) -> int:
    ends = (before.report["requests_microjoules"], after.report["requests_microjoules"])
    return int(ends[1][outcome] - ends[0][outcome])


def settled(server: WattlineProcess, stand_in: NvmlStandIn) -> Settled:
    """Wait until nothing runs or is owed, and look at the report and the books between two refreshes of the counter."""
    found: list[Settled] = []

    def look() -> bool:
        (board,) = boards_of(server, stand_in)
        time.sleep(0.02)  # the meter takes up a value just after the board has noted it as shown
        report = server.worker_energy()
        in_flight = sum(sum(part.values()) for part in report["in_flight_microjoules"].values())
        is_still = boards_of(server, stand_in)[0].displayed_microjoules == board.displayed_microjoules
        if is_still and not (in_flight or report["running_requests"] or report["extrapolated_microjoules"]):
            found.append(Settled(report, board))
        return bool(found)

    wait(look, 30, "the engine or its meter did not come to rest")
    return found[-1]


def boards_of(server: WattlineProcess, stand_in: NvmlStandIn) -> list[BoardBooks]:
    """The board as the engine's API server, where the meter lives, has seen it; none before it looked.

    vLLM also starts a process for a moment to inspect the model, and loads the plugin there too.
    """
    api_servers = {engine.api_server_pid for engine in server.engines()}
    return [board for process in stand_in.books() if process.process_id in api_servers for board in process.boards]


def wait(condition: Callable[[], bool], timeout_seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def show_figures(
    before: Settled,
    after: Settled,
    bills: Bills,
    grown: dict[str, int],
    *,
    billed: int,
    withheld: int,
    aborted: int,
    seconds: float,
) -> None:
    unowned = grown["idle"] + grown["loading"] + grown["unattributed"]
    total, board = billed + withheld + aborted + unowned, after.board
    displayed = board.displayed_microjoules - before.board.displayed_microjoules
    active = sum(grown[name] for name in REQUEST_ACCOUNTS) + grown["unattributed"]
    unknown = sum(answer.microjoules is None for answer in bills.answers)
    nothing = sum(answer.microjoules == 0 for answer in bills.answers)
    tokens = after.report["tokens_total"]["output"] - before.report["tokens_total"]["output"]
    show(f"{bills.ended} requests in {seconds:.1f} s, {len(bills.left)} given up, {tokens} output tokens")
    say(f"told to the callers of {len(bills.answers) - unknown} answers", billed)
    say(f"booked to {unknown} answers whose energy is null, with a reason", withheld)
    say(f"charged for {len(bills.left)} requests given up", aborted)
    for name in ("idle", "loading", "unattributed"):
        say(f"account {name}", grown[name])
    say("sum of the above", total)
    say("displayed by the board's counter over the same time", displayed)
    show(f"their difference: {total - displayed} microjoules, {abs(total - displayed) / displayed:.6%}")
    show(f"answers told of 0 joules: {nothing}")
    show(f"unattributed over active energy: {grown['unattributed'] / active:.4%}")
    say("from the start on, loading included: all accounts", sum(after.accounts.values()))
    say("from the start on: displayed by the counter", board.displayed_microjoules)
    say("from the start on: truly spent", board.true_microjoules)
    say("of which between the last value before the reset and the reset", board.lost_before_resets_microjoules)
    say("of which from the reset to the first value after it", board.lost_after_resets_microjoules)
    show(f"epochs of the meter: {after.report['counter_epochs']}, lost readings: {after.report['sampler_failures']}")


def say(what: str, value: int) -> None:
    show(f"{what:<66}{value / 1e6:>16.6f} J")
