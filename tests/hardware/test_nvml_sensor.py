"""What `metering/sources/nvml.py` takes for granted of a board's sensor, held against this machine's own boards."""

import itertools
import os
import statistics
import time
from collections.abc import Iterator

import pytest

from metering.errors import SourceUnavailableError
from metering.sampler import PERIOD_SECONDS
from metering.sources.nvml import NvmlCounter, PowerIntegratingCounter
from metering.sources.nvml_devices import NvmlDevice, visible_devices
from metering.sources.nvml_library import NvmlLibrary

pytestmark = pytest.mark.hardware

# Thirty refreshes of the slowest known sensor.
WATCHED_SECONDS = 3.0
# Of one core, at the sampler's rate. An H200 in a virtual machine took 8 %: the driver waits for the board by spinning.
MOST_CORE_RATIO = 0.2
# Of an idle board the two differ most: the steps of one are as coarse as the wobble of the other.
MOST_DISAGREEMENT_RATIO = 0.1
LEAST_READS = 200


@pytest.fixture
def library() -> Iterator[NvmlLibrary]:
    try:
        opened = NvmlLibrary(time.monotonic)
    except SourceUnavailableError as problem:
        pytest.skip(f"NVML cannot measure here: {problem}")
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def device(library: NvmlLibrary) -> NvmlDevice:
    try:
        return visible_devices(library.module, os.environ.get("CUDA_VISIBLE_DEVICES"), None)[0]
    except SourceUnavailableError as problem:
        pytest.skip(f"NVML cannot measure here: {problem}")


@pytest.fixture
def counter(library: NvmlLibrary, device: NvmlDevice) -> Iterator[NvmlCounter]:
    opened = NvmlCounter(device, time.monotonic, library)
    yield opened
    opened.close()


def test_the_counter_is_refreshed_as_often_as_the_uncertainty_reckons_with(counter: NvmlCounter) -> None:
    changes: list[float] = []
    last = counter.read()
    deadline = last.at_seconds + WATCHED_SECONDS
    while last.at_seconds < deadline:
        reading = counter.read()
        if reading.energy_microjoules != last.energy_microjoules:
            changes.append(reading.at_seconds)
        last = reading
    gaps = [later - earlier for earlier, later in itertools.pairwise(changes)]
    median = statistics.median(gaps)
    print(f"refreshed every {1000 * median:.1f} ms (median; {1000 * max(gaps):.1f} ms at most, {len(gaps)} of them)")  # noqa: T201
    period_seconds = counter.info.update_period_seconds
    assert median <= 1.1 * period_seconds


def test_reading_at_the_samplers_rate_costs_little_of_one_core(counter: NvmlCounter) -> None:
    counter.read()
    cpu_began, began = time.thread_time(), time.monotonic()
    for _ in range(LEAST_READS):
        counter.read()
    cpu_seconds = (time.thread_time() - cpu_began) / LEAST_READS
    seconds = (time.monotonic() - began) / LEAST_READS
    print(f"a reading takes {1e6 * seconds:.0f} µs, {1e6 * cpu_seconds:.0f} µs of them computing")  # noqa: T201
    assert cpu_seconds / PERIOD_SECONDS < MOST_CORE_RATIO
    assert seconds < PERIOD_SECONDS / 2


def test_the_energy_counter_rises_by_the_integral_of_the_instantaneous_power(
    library: NvmlLibrary, device: NvmlDevice, counter: NvmlCounter
) -> None:
    integrating = PowerIntegratingCounter(device, time.monotonic, library)
    try:
        counted, integrated = counter.read(), integrating.read()
        deadline = counted.at_seconds + WATCHED_SECONDS
        while time.monotonic() < deadline:
            time.sleep(PERIOD_SECONDS)
            last_counted, last_integrated = counter.read(), integrating.read()
    finally:
        integrating.close()
    counted_joules = (last_counted.energy_microjoules - counted.energy_microjoules) / 1e6
    integrated_joules = (last_integrated.energy_microjoules - integrated.energy_microjoules) / 1e6
    print(f"{counted_joules:.2f} J counted, {integrated_joules:.2f} J integrated")  # noqa: T201
    assert integrated_joules == pytest.approx(counted_joules, rel=MOST_DISAGREEMENT_RATIO)
