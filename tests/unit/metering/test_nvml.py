"""NVML through the real nvidia-ml-py, over a C library that plays the driver."""

import pytest

from metering.sources.nvml_devices import WHOLE_GPU
from tests.nvml_stand_in import NvmlStandIn

PASCAL, VOLTA, TURING, AMPERE, ADA, HOPPER, BLACKWELL = 4, 5, 6, 7, 8, 9, 10
NOT_SUPPORTED, NO_PERMISSION, DRIVER_NOT_LOADED, GPU_IS_LOST = 3, 4, 9, 15

OPEN = """
from metering.errors import CounterReadError, SourceUnavailableError
from metering.sources.nvml import open_nvml_counters
visible, order = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("CUDA_DEVICE_ORDER")
try:
    counters = open_nvml_counters(time.monotonic, visible, order)
except SourceUnavailableError as problem:
    tell(str(problem))
    sys.exit()
"""
DEVICES = OPEN + "tell([counter.info.device for counter in counters])"
# A counter rises by up to one refresh more or less than power x time; ask over a few of them.
TWO_READINGS = (
    OPEN
    + """
kind, first = type(counters[0]).__name__, counters[0].read()
end = time.monotonic() + 0.25
while time.monotonic() < end:
    time.sleep(0.02)
    last = counters[0].read()
tell([kind, last.at_seconds - first.at_seconds, last.energy_microjoules - first.energy_microjoules])
"""
)


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> NvmlStandIn:
    return NvmlStandIn(tmp_path_factory.mktemp("nvml"))


def test_energy_rises_by_power_times_time(nvml: NvmlStandIn) -> None:
    kind, seconds, microjoules = nvml.run("power_watts=300 period_seconds=0.02", code=TWO_READINGS)
    assert kind == "NvmlCounter"
    assert microjoules / 1e6 == pytest.approx(300 * seconds, abs=300 * 0.02 + 0.01)


def test_energy_is_read_in_whole_millijoules(nvml: NvmlStandIn) -> None:
    assert nvml.run("power_watts=300", code=OPEN + "tell(counters[0].read().energy_microjoules)") % 1_000 == 0


def test_every_gpu_is_opened_where_none_is_named(nvml: NvmlStandIn) -> None:
    assert nvml.run("uuid=GPU-aa", "uuid=GPU-bb", code=DEVICES) == ["GPU-aa", "GPU-bb"]


@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        ("1", ["GPU-ab"]),
        ("2,0", ["GPU-bb", "GPU-aa"]),
        (" 1 , 1 ", ["GPU-ab"]),
        ("GPU-b", ["GPU-bb"]),
        ("GPU-ab,0", ["GPU-ab", "GPU-aa"]),
        ("0,-1,1", ["GPU-aa"]),
        ("0,7,1", ["GPU-aa"]),
        ("2,GPU-a", ["GPU-bb"]),
    ],
)
def test_visible_devices_mean_what_cuda_means(nvml: NvmlStandIn, visible: str, devices: list[str]) -> None:
    gpus = ("uuid=GPU-aa", "uuid=GPU-ab", "uuid=GPU-bb")
    assert nvml.run(*gpus, code=DEVICES, CUDA_VISIBLE_DEVICES=visible) == devices


@pytest.mark.parametrize("visible", ["", "-1", "GPU-zz", "none"])
def test_hiding_every_gpu_is_a_refusal(nvml: NvmlStandIn, visible: str) -> None:
    reason = nvml.run("uuid=GPU-aa", code=DEVICES, CUDA_VISIBLE_DEVICES=visible)
    assert reason == f"CUDA_VISIBLE_DEVICES={visible!r} hides every one of the 1 GPU(s)"


def test_unlike_gpus_need_the_bus_order_because_cuda_puts_the_fastest_first(nvml: NvmlStandIn) -> None:
    gpus = ("uuid=GPU-aa name=L4", "uuid=GPU-bb name=H100")
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in nvml.run(*gpus, code=DEVICES)
    assert nvml.run(*gpus, code=DEVICES, CUDA_DEVICE_ORDER="PCI_BUS_ID") == ["GPU-aa", "GPU-bb"]
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in nvml.run(*gpus, code=DEVICES, CUDA_VISIBLE_DEVICES="1")
    in_order = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert nvml.run(*gpus, code=DEVICES, **in_order) == ["GPU-bb"]
    assert nvml.run(*gpus, code=DEVICES, CUDA_VISIBLE_DEVICES="GPU-b") == ["GPU-bb"]


def test_a_gpu_the_container_hides_is_not_counted(nvml: NvmlStandIn) -> None:
    gpus = (f"uuid=GPU-aa handle={NO_PERMISSION}", "uuid=GPU-bb")
    assert nvml.run(*gpus, code=DEVICES, CUDA_VISIBLE_DEVICES="0") == ["GPU-bb"]


@pytest.mark.parametrize("slices", [0, 2])
def test_a_gpu_split_by_mig_is_refused_and_its_slices_are_named(nvml: NvmlStandIn, slices: int) -> None:
    reason = nvml.run(f"uuid=GPU-aa mig=1 mig_devices={slices}", code=DEVICES)
    listed = "into MIG-GPU-aa-0, MIG-GPU-aa-1" if slices else "(no slice is listed)"
    assert reason.startswith(f"GPU GPU-aa (Stand-In) is split by MIG {listed}, and {WHOLE_GPU}; to mend it: ")
    assert "nvidia-smi -mig 0" in reason


@pytest.mark.parametrize("visible", ["MIG-GPU-aa-0", "MIG-1234", "1,MIG-1234"])
def test_a_mig_slice_that_cuda_is_told_to_use_is_refused_by_name(nvml: NvmlStandIn, visible: str) -> None:
    reason = nvml.run("uuid=GPU-aa mig=1 mig_devices=1", "uuid=GPU-bb", code=DEVICES, CUDA_VISIBLE_DEVICES=visible)
    assert reason.startswith(f"CUDA_VISIBLE_DEVICES names the MIG slice {visible.removeprefix('1,')}, and {WHOLE_GPU}")


def test_a_mig_slice_that_the_driver_lists_as_a_gpu_is_refused(nvml: NvmlStandIn) -> None:
    gpus = ("uuid=MIG-1234", "uuid=GPU-bb")
    assert nvml.run(*gpus, code=DEVICES).startswith(f"MIG-1234 (Stand-In) is a MIG slice, and {WHOLE_GPU}")
    assert nvml.run(*gpus, code=DEVICES, CUDA_VISIBLE_DEVICES="1") == ["GPU-bb"]


def test_a_mig_handle_is_recognised_whatever_it_is_called(nvml: NvmlStandIn) -> None:
    code = """
import pynvml
from metering.sources.nvml_devices import _is_mig_slice
pynvml.nvmlInit()
gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
tell([_is_mig_slice(pynvml, handle, "GPU-aa") for handle in (gpu, pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, 0))])
"""
    assert nvml.run("uuid=GPU-aa mig=1 mig_devices=1", code=code) == [False, True]


def test_a_split_gpu_leaves_the_whole_ones_measurable(nvml: NvmlStandIn) -> None:
    gpus = ("uuid=GPU-aa mig=1 mig_devices=1", "uuid=GPU-bb")
    assert nvml.run(*gpus, code=DEVICES, CUDA_VISIBLE_DEVICES="GPU-bb") == ["GPU-bb"]


def test_a_gpu_without_mig_is_no_refusal(nvml: NvmlStandIn) -> None:
    assert nvml.run("uuid=GPU-aa mig=unsupported", code=DEVICES) == ["GPU-aa"]


@pytest.mark.parametrize(
    ("architecture", "period_seconds"),
    [(PASCAL, 0.02), (VOLTA, 0.02), (TURING, 0.1), (AMPERE, 0.1), (ADA, 0.1), (HOPPER, 0.1), (BLACKWELL, 0.1)],
)
def test_update_period_follows_the_architecture(nvml: NvmlStandIn, architecture: int, period_seconds: float) -> None:
    code = OPEN + "info = counters[0].info\ntell([info.update_period_seconds, info.uncertainty_ratio, info.measured])"
    assert nvml.run(f"arch={architecture}", code=code) == [period_seconds, 0.05, True]


def test_without_an_energy_counter_instantaneous_power_is_integrated(nvml: NvmlStandIn) -> None:
    gpu = f"energy={NOT_SUPPORTED} power_watts=250 average_watts=9999"
    kind, seconds, microjoules = nvml.run(gpu, code=TWO_READINGS)
    assert kind == "PowerIntegratingCounter"
    assert microjoules / 1e6 == pytest.approx(250 * seconds, rel=0.01)


def test_integrated_power_runs_straight_between_reads_and_starts_anew_after_an_outage(nvml: NvmlStandIn) -> None:
    code = """
from metering.sources.nvml import MAX_GAP_SECONDS, open_nvml_counters
now = 0.0
(counter,) = open_nvml_counters(lambda: now, None)
answers = [counter.read().energy_microjoules]
for now, watts in ((1.0, 300), (2.0, 300), (2.5 + MAX_GAP_SECONDS, 300), (3.5 + MAX_GAP_SECONDS, 300)):
    gpus(f"energy=3 power_watts={watts}")
    answers.append(counter.read().energy_microjoules)
tell(answers)
"""
    answers = nvml.run(f"energy={NOT_SUPPORTED} power_watts=100", code=code)
    assert answers == [0, 200_000_000, 500_000_000, 0, 300_000_000]


def test_a_gpu_without_energy_or_power_is_refused_with_both_reasons(nvml: NvmlStandIn) -> None:
    reason = nvml.run(f"uuid=GPU-aa energy={NOT_SUPPORTED} power={NOT_SUPPORTED}", code=DEVICES)
    assert "GPU GPU-aa (Stand-In) cannot be measured" in reason
    assert "reading the energy of" in reason
    assert "reading the power of" in reason


def test_a_lost_gpu_is_not_taken_for_one_without_a_counter(nvml: NvmlStandIn) -> None:
    reason = nvml.run(f"energy={GPU_IS_LOST}", code=DEVICES)
    assert "GPU is lost" in reason
    assert "power" not in reason


@pytest.mark.parametrize("kind", ["energy", "power"])
def test_a_failed_read_is_an_error_and_the_counter_comes_back(nvml: NvmlStandIn, kind: str) -> None:
    code = (
        OPEN
        + """
usual = Path(os.environ["WATTLINE_NVML_STAND_IN"]).read_text().strip()
gpus(f"{usual} KIND=15")
try:
    counters[0].read()
    answer = "read"
except CounterReadError as problem:
    answer = str(problem)
gpus(usual)
tell([answer, counters[0].read().energy_microjoules >= 0])
""".replace("KIND", kind)
    )
    usual = "uuid=GPU-aa" if kind == "energy" else f"uuid=GPU-aa energy={NOT_SUPPORTED}"
    assert nvml.run(usual, code=code) == [f"reading the {kind} of GPU GPU-aa failed: GPU is lost", True]


LOST_AND_FOUND = """
from metering.errors import CounterReadError
from metering.sources.nvml import open_nvml_counters
from metering.sources.nvml_library import RENEWAL_PERIOD_SECONDS
now = 100.0
counters = open_nvml_counters(lambda: now, None)

def read():
    answers = []
    for counter in counters:
        try:
            answers.append(counter.read().energy_microjoules > 0)
        except CounterReadError as problem:
            answers.append(str(problem))
    return answers

answers = [read()]
"""
LOST = "reading the energy of GPU GPU-aa failed: GPU is lost"


def test_a_lost_gpu_is_found_again_by_starting_nvml_anew(nvml: NvmlStandIn) -> None:
    code = LOST_AND_FOUND + "gpus('uuid=GPU-aa handle_epoch=1', 'uuid=GPU-bb')\ntell([*answers, read(), read()])"
    assert nvml.run("uuid=GPU-aa", "uuid=GPU-bb", code=code) == [[True, True], [LOST, True], [True, True]]


def test_a_gpu_that_stays_lost_does_not_keep_nvml_starting(nvml: NvmlStandIn) -> None:
    code = (
        LOST_AND_FOUND
        + """
import pynvml
starts = 0
start = pynvml.nvmlInit
def counted():
    global starts
    starts += 1
    start()
pynvml.nvmlInit = counted
gpus("uuid=GPU-aa lost=1", "uuid=GPU-bb")
for _ in range(50):
    answers.append(read())
first = starts
now += RENEWAL_PERIOD_SECONDS
answers.append(read())
second = starts
gpus("uuid=GPU-aa", "uuid=GPU-bb")
tell([answers[1:-1] == [["reading the energy of GPU GPU-aa failed: GPU is lost", True]] * 50, first, second, read()])
"""
    )
    assert nvml.run("uuid=GPU-aa", "uuid=GPU-bb", code=code) == [True, 1, 2, [True, True]]


def test_a_driver_that_goes_away_is_a_lost_reading_until_it_is_back(nvml: NvmlStandIn) -> None:
    code = (
        LOST_AND_FOUND
        + f"""
gpus("library init={DRIVER_NOT_LOADED}", "uuid=GPU-aa lost=1")
answers += [read(), read()]
gpus("uuid=GPU-aa")
now += RENEWAL_PERIOD_SECONDS
tell([*answers, read(), read()])
"""
    )
    before, lost, away, coming, back = nvml.run("uuid=GPU-aa", code=code)
    assert before == back == [True]
    assert lost == [LOST]
    assert away == coming == ["reading the energy of GPU GPU-aa failed: Uninitialized"]


def test_the_power_of_a_superchip_is_said_to_be_the_modules(nvml: NvmlStandIn) -> None:
    code = OPEN + "tell([counter.info.description for counter in counters])"
    (counter,) = nvml.run("name=NVIDIA-GH200-480GB", code=code)
    (integrated,) = nvml.run(f"name=NVIDIA-GH200-480GB energy={NOT_SUPPORTED}", code=code)
    (other,) = nvml.run("name=NVIDIA-H100", code=code)
    assert counter.endswith("; covers the whole module, the Grace CPU and its memory included")
    assert integrated.endswith("; covers the whole module, the Grace CPU and its memory included")
    assert "module" not in other


def test_the_averaged_power_is_never_asked_for(nvml: NvmlStandIn) -> None:
    code = "import pynvml\ndel pynvml.nvmlDeviceGetPowerUsage\n" + OPEN + "tell(type(counters[0]).__name__)"
    assert nvml.run(f"energy={NOT_SUPPORTED}", code=code) == "PowerIntegratingCounter"


def test_a_counter_set_back_is_passed_on_as_it_is(nvml: NvmlStandIn) -> None:
    code = (
        OPEN
        + """
before = counters[0].read().energy_microjoules
gpus("offset_millijoules=-1e15")
tell([before > 0, counters[0].read().energy_microjoules])
"""
    )
    assert nvml.run("power_watts=100", code=code) == [True, 0]


def test_no_gpu_is_a_refusal(nvml: NvmlStandIn) -> None:
    assert nvml.run(code=DEVICES) == "the NVIDIA driver answers but shows no GPU"


def test_a_driver_that_is_not_loaded_is_a_refusal(nvml: NvmlStandIn) -> None:
    reason = nvml.run(f"library init={DRIVER_NOT_LOADED}", "uuid=GPU-aa", code=DEVICES)
    assert reason == "the NVIDIA kernel driver is not loaded; to mend it: see whether nvidia-smi works"


def test_one_counter_closed_leaves_the_others_readable(nvml: NvmlStandIn) -> None:
    code = OPEN + "counters[0].close()\ntell(counters[1].read().energy_microjoules > 0)"
    assert nvml.run("uuid=GPU-aa", "uuid=GPU-bb", code=code) is True


def test_refusing_one_gpu_closes_the_others(nvml: NvmlStandIn) -> None:
    code = """
import pynvml
from metering.errors import SourceUnavailableError
from metering.sources.nvml import open_nvml_counters
try:
    open_nvml_counters(time.monotonic, None)
except SourceUnavailableError:
    pass
try:
    pynvml.nvmlDeviceGetCount()
except pynvml.NVMLError as problem:
    tell(str(problem))
"""
    assert nvml.run("uuid=GPU-aa", "uuid=GPU-bb mig=1", code=code) == "Uninitialized"


ENGINE_USES = """
from metering.vllm_plugin.session import MeterSession
session = MeterSession({"WATTLINE_METER": "auto"})
session.engines_use(%r, %d, 1)
time.sleep(0.6)
report = session.telemetry()
tell([report["source"], len(session.meter.tracks), report["power_watts"]])
"""


def test_boards_that_the_engine_does_not_use_are_not_billed_to_it(nvml: NvmlStandIn) -> None:
    source, boards, watts = nvml.run(
        *[f"uuid=GPU-{n} power_watts=100 period_seconds=0.02" for n in "abcdefgh"], code=ENGINE_USES % ("cuda", 2)
    )
    assert (source, boards) == ("nvml", 2)
    assert watts["gpu"] == pytest.approx(200, rel=0.2)


def test_an_engine_on_the_cpu_is_not_measured_by_an_idle_board(nvml: NvmlStandIn) -> None:
    source, _, watts = nvml.run("power_watts=100", code=ENGINE_USES % ("cpu", 1))
    assert source == "estimate"
    assert list(watts) == ["cpu"]
