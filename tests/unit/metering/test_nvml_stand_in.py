"""The NVML stand-in itself, through the real nvidia-ml-py: what it shows, and what it has on its own books.

Most tests hold its clock in their hands (`library clock_seconds`), so that every figure is exact.
"""

import random
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Any

import pytest

from tests.nvml_stand_in import NvmlStandIn
from tests.nvml_stand_in.books import BoardBooks, ProcessBooks
from tests.nvml_stand_in.watts import Watts

START_MILLIJOULES = 1_000_000_000
GPU_IS_LOST = "GPU is lost"
ROUNDED_PARTS = 9  # each on its own, towards zero, by less than a microjoule

LOOKS = """
import pynvml
answers, lines = [], {lines!r}
gpus("library clock_seconds={instants[0]}", *lines)
pynvml.nvmlInit()
handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
for seconds in {instants!r}:
    gpus(f"library clock_seconds={{seconds}}", *lines)
    for index in range(len(handles)):
        try:
            shown = pynvml.nvmlDeviceGetTotalEnergyConsumption(handles[index])
        except pynvml.NVMLError as problem:
            shown = str(problem)
        answers.append([index, shown, books()])
tell(answers)
"""
ONE_BOARD = "import pynvml\npynvml.nvmlInit()\nboard = pynvml.nvmlDeviceGetHandleByIndex(0)\n"


@dataclass(frozen=True, slots=True)
class Look:
    """One energy call: millijoules above the counter's start or the error's text, and the board's books after it."""

    shown: int | str
    books: BoardBooks


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> NvmlStandIn:
    return NvmlStandIn(tmp_path_factory.mktemp("nvml"))


def look(nvml: NvmlStandIn, instants: list[float], *lines: str) -> list[Look]:
    """Ask the only GPU for its energy at these instants of the stand-in's clock."""
    return [Look(shown, board) for _, shown, board in look_at_all(nvml, instants, *lines)]


def look_at_all(nvml: NvmlStandIn, instants: list[float], *lines: str) -> list[tuple[int, int | str, BoardBooks]]:
    answers = nvml.run(code=LOOKS.format(lines=lines, instants=instants))
    looks = []
    for index, shown, content in answers:
        above_start = shown - START_MILLIJOULES if isinstance(shown, int) else shown
        looks.append((index, above_start, ProcessBooks.from_json(content).boards[index]))
    return looks


CURVES = {
    "steady": Watts((("0", "250"), ("1", "250"))),
    "ramp": Watts((("0", "80.25"), ("1.7", "700"))),
    "steps and ramps": Watts((("0", "90"), ("0.5", "90"), ("0.5", "420"), ("1.25", "610"), ("1.25", "0"), ("2", "33"))),
    "from an instant on": Watts((("0", "60"), ("0.3", "300"), ("0.9", "10")), start="101.05"),
    "once": Watts((("0", "60"), ("0.7", "500"), ("1.1", "45")), start="100.4", repeats=False),
}


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES.keys())
def test_what_is_spent_is_the_integral_of_the_curve_however_it_is_read(nvml: NvmlStandIn, curve: Watts) -> None:
    instants = [100.0, 100.001, 100.37, 101.2345, 101.25, 104.0, 117.77]
    for at, seen in zip(instants, look(nvml, instants, curve.line), strict=True):
        assert seen.books.true_microjoules == floor(curve.joules(100.0, at) * 1_000_000)
    (unwatched,) = look(nvml, [100.0, 117.77], curve.line)[1:]
    assert unwatched.books.true_microjoules == floor(curve.joules(100.0, 117.77) * 1_000_000)


def test_a_wobble_multiplies_the_curve_slot_by_slot(nvml: NvmlStandIn) -> None:
    wobbling = Watts((("0", "100"), ("2", "500"), ("3", "200")), wobble_ratio=0.25, wobble_seconds="0.03")
    steady = Watts(wobbling.points)
    looks = look(nvml, [50.0, 50.02, 50.1, 53.005, 77.0], wobbling.line)
    for at, seen in zip([50.0, 50.02, 50.1, 53.005, 77.0], looks, strict=True):
        assert seen.books.true_microjoules / 1e6 == pytest.approx(float(wobbling.joules(50.0, at)), rel=1e-5)
    assert looks[1].books.true_microjoules / 1e6 != pytest.approx(float(steady.joules(50.0, 50.02)), rel=0.01)
    assert looks[-1].books.true_microjoules / 1e6 == pytest.approx(float(steady.joules(50.0, 77.0)), rel=0.01)


def test_the_instantaneous_power_is_the_curve(nvml: NvmlStandIn) -> None:
    curve = CURVES["steps and ramps"]
    code = (
        ONE_BOARD
        + f"""
watts = []
for seconds in (100.25, 100.5, 101.0, 101.5):
    gpus(f"library clock_seconds={{seconds}}", {curve.line!r})
    (field,) = pynvml.nvmlDeviceGetFieldValues(board, [pynvml.NVML_FI_DEV_POWER_INSTANT])
    watts.append(field.value.uiVal / 1000)
tell(watts)
"""
    )
    expected = [float(curve.at(Fraction(seconds))) for seconds in ("100.25", "100.5", "101", "101.5")]
    assert nvml.run(f"library clock_seconds={100}", curve.line, code=code) == pytest.approx(expected, abs=0.001)


def test_readers_are_given_the_counter_of_the_latest_refresh(nvml: NvmlStandIn) -> None:
    curve = CURVES["steps and ramps"]
    instants = [10.0, 10.029, 10.03, 10.279, 10.28, 10.9, 12.531]
    refreshes: list[float | None] = [None, None, 10.03, 10.03, 10.28, 10.78, 12.53]
    looks = look(nvml, instants, curve.line + " period_seconds=0.25 phase_seconds=0.03")
    for refreshed_at, seen in zip(refreshes, looks, strict=True):
        refreshed = 0 if refreshed_at is None else floor(curve.joules(10.0, refreshed_at) * 1000)
        assert seen.shown == refreshed
    assert [seen.books.displayed_microjoules for seen in looks] == [int(seen.shown) * 1000 for seen in looks]


def test_a_reset_restarts_the_counter_and_what_nobody_saw_of_it_is_on_the_books(nvml: NvmlStandIn) -> None:
    instants = [10.0, 11.0, 11.31, 11.41, 12.0]
    looks = look(nvml, instants, "power_watts=100", "at 11.3 gpu=0 resets=1")
    before, shown_after, after = looks[1], looks[2], looks[3]
    assert before.shown == 100_000
    assert shown_after.shown == -START_MILLIJOULES
    assert after.shown == 10_000 - START_MILLIJOULES  # of the refresh at 11.4
    books = looks[4].books
    assert books.resets == 1
    assert books.lost_before_resets_microjoules == 30_000_000
    assert books.lost_after_resets_microjoules == 0
    assert books.displayed_microjoules == 100_000_000 + 70_000_000
    assert books.true_microjoules == 200_000_000


def test_the_first_value_after_a_reset_is_not_taken_for_seen(nvml: NvmlStandIn) -> None:
    looks = look(nvml, [10.0, 11.0, 14.0, 15.0], "power_watts=100", "at 11.5 gpu=0 resets=1", "at 12 gpu=0 resets=2")
    books = looks[-1].books
    assert looks[2].shown == 200_000 - START_MILLIJOULES
    assert books.resets == 2
    assert books.lost_before_resets_microjoules == 100_000_000  # of two epochs; nobody looked at the second
    assert books.lost_after_resets_microjoules == 200_000_000
    assert books.displayed_microjoules == 200_000_000


@pytest.mark.parametrize(("stall", "lost_joules"), [("catch_up", 0), ("for_good", 200)])
def test_a_stalled_counter_answers_and_stands_still(nvml: NvmlStandIn, stall: str, lost_joules: int) -> None:
    changes = (f"at 11.05 gpu=0 stall={stall}", "at 13.05 gpu=0 stall=0")
    looks = look(nvml, [10.0, 11.06, 12.0, 13.04, 13.06, 13.11, 14.0], "power_watts=100", *changes)
    assert [seen.shown for seen in looks[:5]] == [0, 100_000, 100_000, 100_000, 100_000]
    assert looks[5].shown == 310_000 - lost_joules * 1000
    assert looks[6].shown == 400_000 - lost_joules * 1000
    assert looks[6].books.stalls == 1
    assert looks[6].books.lost_in_stalls_microjoules == lost_joules * 1_000_000
    assert looks[6].books.displayed_microjoules == (400 - lost_joules) * 1_000_000
    assert looks[6].books.true_microjoules == 400_000_000


def test_a_jump_is_shown_with_the_next_refresh_and_was_never_spent(nvml: NvmlStandIn) -> None:
    changes = ("at 10.55 gpu=0 jumped_joules=5000", "at 11.55 gpu=0 jumped_joules=4000.5")
    looks = look(nvml, [10.0, 10.5, 10.56, 10.6, 11.5, 11.6], "power_watts=100", *changes)
    assert [seen.shown for seen in looks] == [0, 50_000, 50_000, 5_060_000, 5_150_000, 4_160_500]
    books = looks[-1].books
    assert (books.jumps, books.resets) == (2, 0)
    assert books.jumped_microjoules == 4_000_500_000
    assert books.displayed_microjoules == 5_150_000_000
    assert books.fallen_microjoules == 989_500_000
    assert books.true_microjoules == 160_000_000


def test_an_offset_is_shown_at_once_and_never_below_zero(nvml: NvmlStandIn) -> None:
    looks = look(nvml, [10.0, 10.55, 10.6], "power_watts=100", "at 10.55 gpu=0 offset_millijoules=-1e15")
    assert [seen.shown for seen in looks] == [0, -START_MILLIJOULES, 5_000 - START_MILLIJOULES]


def test_a_lost_gpu_fails_every_call_until_it_is_found_and_spends_on(nvml: NvmlStandIn) -> None:
    looks = look(nvml, [10.0, 11.0, 12.0, 13.0], "power_watts=100", "at 10.5 gpu=0 lost=1", "at 12.5 gpu=0 lost=0")
    assert [seen.shown for seen in looks] == [0, GPU_IS_LOST, GPU_IS_LOST, 300_000]
    assert looks[3].books.errors == 2
    assert looks[3].books.displayed_microjoules == 300_000_000


def test_one_call_may_fail_while_others_answer(nvml: NvmlStandIn) -> None:
    code = (
        ONE_BOARD
        + """
answers = []
for call in ("nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetUUID"):
    try:
        answers.append(getattr(pynvml, call)(board))
    except pynvml.NVMLError as problem:
        answers.append(type(problem).__name__)
tell(answers)
"""
    )
    assert nvml.run("uuid=GPU-aa energy=999", code=code) == ["NVMLError_Unknown", "GPU-aa"]


def test_dead_handles_live_again_only_after_nvml_was_shut_down(nvml: NvmlStandIn) -> None:
    code = (
        ONE_BOARD
        + """
def ask(call, *arguments):
    try:
        call(*arguments)
        return "answered"
    except pynvml.NVMLError as problem:
        return str(problem)
pynvml.nvmlInit()
gpus("handle_epoch=1")
answers = [ask(pynvml.nvmlDeviceGetUUID, board)]
pynvml.nvmlInit()
answers.append(ask(pynvml.nvmlDeviceGetHandleByIndex, 0))
pynvml.nvmlShutdown()
pynvml.nvmlShutdown()
answers.append(ask(pynvml.nvmlDeviceGetHandleByIndex, 0))
pynvml.nvmlShutdown()
answers.append(ask(pynvml.nvmlDeviceGetHandleByIndex, 0))
pynvml.nvmlInit()
answers.append(ask(pynvml.nvmlDeviceGetHandleByIndex, 0))
tell(answers)
"""
    )
    answers = nvml.run("uuid=GPU-aa", code=code)
    assert answers == [GPU_IS_LOST, GPU_IS_LOST, GPU_IS_LOST, "Uninitialized", "answered"]


CHANGED = """
import pynvml
gpus("library clock_seconds=10", "power_watts=100")
pynvml.nvmlInit()
board = pynvml.nvmlDeviceGetHandleByIndex(0)
answers = []
for lines in {scripts!r}:
    gpus(*lines)
    pynvml.nvmlDeviceGetTotalEnergyConsumption(board)
    answers.append(books()["boards"][0]["true_microjoules"] / 1e6)
tell(answers)
"""


def test_a_change_takes_effect_at_its_instant_a_late_one_at_the_call_before(nvml: NvmlStandIn) -> None:
    scripts = [
        ["library clock_seconds=12", "power_watts=100", "at 11 gpu=0 power_watts=300"],
        ["library clock_seconds=13", "power_watts=100", "at 11 gpu=0 power_watts=300", "at 11.5 gpu=0 power_watts=500"],
        ["library clock_seconds=15", "power_watts=100"],
        ["library clock_seconds=16", "power_watts=100"],
    ]
    assert nvml.run(code=CHANGED.format(scripts=scripts)) == [400, 900, 1900, 2000]


def test_what_has_no_instant_takes_effect_in_the_call_that_sees_it(nvml: NvmlStandIn) -> None:
    scripts = [[f"library clock_seconds={at}", f"power_watts={watts}"] for at, watts in ((12, 300), (13, 50), (15, 0))]
    assert nvml.run(code=CHANGED.format(scripts=scripts)) == [200, 500, 600]


def faulty_script(seed: int) -> tuple[list[float], list[str]]:
    """Two GPUs with curves and faults of every kind at random instants, and when to look at them."""
    chance = random.Random(seed)
    lines = [
        "uuid=GPU-aa power_watts=0:90,0.5:90,0.5:420,1.25:610,2:33 wobble_ratio=0.2 wobble_seconds=0.05",
        "uuid=GPU-bb power_watts=0:55.5,3:700 period_seconds=0.02 phase_seconds=0.007",
    ]
    kinds = ["stall=catch_up", "stall=for_good", "stall=0", "lost=1", "lost=0", "energy=999", "energy=0"]
    kinds += [f"resets={n}" for n in range(3)] + [f"jumped_joules={n}" for n in (-7.125, 0, 3000)]
    kinds += ["power_watts=12.345678", "period_seconds=0.3", "offset_millijoules=-5000", "offset_millijoules=0"]
    lines += [f"at {chance.uniform(10, 40):.6f} gpu={chance.randrange(2)} {chance.choice(kinds)}" for _ in range(120)]
    return [10.0, *sorted(round(chance.uniform(10, 40), 6) for _ in range(150))], lines


@pytest.mark.parametrize("seed", range(3))
def test_through_every_fault_the_books_account_for_all_that_was_spent(nvml: NvmlStandIn, seed: int) -> None:
    instants, lines = faulty_script(seed)
    looks = look_at_all(nvml, instants, *lines)
    spent = dict.fromkeys((0, 1), 0)
    displayed, shown_last = dict.fromkeys((0, 1), 0), dict.fromkeys((0, 1), (0, 0))
    for index, shown, books in looks:
        assert abs(books.true_microjoules + books.jumped_microjoules - books.accounted_microjoules) < ROUNDED_PARTS
        assert books.true_microjoules >= spent[index]
        spent[index] = books.true_microjoules
        if isinstance(shown, int):
            epoch, before = shown_last[index]
            if books.reads > 1 and books.resets == epoch:
                displayed[index] += max(0, shown - before) * 1000
            shown_last[index] = books.resets, shown
        assert books.displayed_microjoules == displayed[index]
    assert all(
        books.resets and books.jumps and books.stalls and books.errors and books.lost_in_stalls_microjoules
        for _, _, books in looks[-2:]
    )


def test_on_the_real_clock_energy_is_power_times_time(nvml: NvmlStandIn) -> None:
    code = (
        ONE_BOARD
        + """
before = time.monotonic_ns()
pynvml.nvmlDeviceGetTotalEnergyConsumption(board)
after = time.monotonic_ns()
tell([before, after, os.getpid(), books()])
"""
    )
    before, after, process_id, content = nvml.run("power_watts=300", code=code)
    books = ProcessBooks.from_json(content)
    (board,) = books.boards
    assert before <= books.at_nanoseconds <= after
    assert board.true_microjoules == (books.at_nanoseconds - board.since_nanoseconds) * 300 // 1000
    assert process_id == books.process_id
    assert process_id in [other.process_id for other in nvml.books()]


def test_a_process_that_asks_for_no_energy_keeps_no_books(nvml: NvmlStandIn) -> None:
    kept = len(nvml.books())
    nvml.run(code="import pynvml\npynvml.nvmlInit()\ntell(pynvml.nvmlDeviceGetCount())")
    assert len(nvml.books()) == kept


def test_clocks_are_supported_where_the_script_has_them(nvml: NvmlStandIn) -> None:
    code = (
        ONE_BOARD
        + """
def clock(call, kind):
    try:
        return call(board, kind)
    except pynvml.NVMLError as problem:
        return str(problem)
tell([clock(pynvml.nvmlDeviceGetClockInfo, kind) for kind in range(4)]
    + [clock(pynvml.nvmlDeviceGetMaxClockInfo, pynvml.NVML_CLOCK_SM)])
"""
    )
    assert nvml.run("sm_clock_mhz=1410 max_sm_clock_mhz=1980", code=code) == [
        1410,
        1410,
        "Not Supported",
        "Not Supported",
        1980,
    ]


def test_mig_slices_have_handles_of_their_own_and_show_the_whole_gpu(nvml: NvmlStandIn) -> None:
    code = (
        ONE_BOARD
        + """
slices = []
for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(board)):
    try:
        slices.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(board, index))
    except pynvml.NVMLError_NotFound:
        pass
uuids = [pynvml.nvmlDeviceGetUUID(handle) for handle in slices]
parent = pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(slices[1]))
again = pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByUUID(uuids[1]))
energies = {pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in (board, *slices)}
tell([uuids, parent, again, sorted(energies)])
"""
    )
    lines = ("library clock_seconds=10", "uuid=GPU-aa mig=1 mig_devices=2")
    uuids, parent, again, energies = nvml.run(*lines, code=code)
    assert uuids == ["MIG-GPU-aa-0", "MIG-GPU-aa-1"]
    assert (parent, again) == ("GPU-aa", uuids[1])
    assert energies == [START_MILLIJOULES]


def test_a_slow_call_takes_its_time_and_answers_what_is_true_at_its_end(nvml: NvmlStandIn) -> None:
    code = (
        ONE_BOARD
        + """
before = time.monotonic_ns()
pynvml.nvmlDeviceGetTotalEnergyConsumption(board)
tell([before, books()["at_nanoseconds"]])
"""
    )
    before, answered = nvml.run("slow_milliseconds=30", code=code)
    assert answered - before >= 30_000_000


def test_a_script_that_makes_no_sense_ends_the_process(nvml: NvmlStandIn) -> None:
    code = "import pynvml\npynvml.nvmlInit()\ntell('it went on')"
    for line in ("power_wats=3", "power_watts=0:1,1", "at 5 power_watts=1", "stall=maybe", "period_seconds=0"):
        with pytest.raises(AssertionError, match="nvml_stand_in"):
            nvml.run(line, code=code)


def test_what_it_finds_beside_itself_needs_no_variables(nvml: NvmlStandIn) -> None:
    code = """
import pynvml
del os.environ["WATTLINE_NVML_STAND_IN"], os.environ["WATTLINE_NVML_STAND_IN_BOOKS"]
pynvml.nvmlInit()
board = pynvml.nvmlDeviceGetHandleByUUID("GPU-beside")
pynvml.nvmlDeviceGetTotalEnergyConsumption(board)
tell(os.getpid())
"""
    process_id: Any = nvml.run("uuid=GPU-beside", code=code)
    (books,) = [books for books in nvml.books() if books.process_id == process_id]
    assert [board.uuid for board in books.boards] == ["GPU-beside"]
