"""The NVML counters of this machine's own GPUs."""

import os
import time

import pytest

from metering.choice import choose_counters
from metering.errors import SourceUnavailableError

pytestmark = pytest.mark.hardware

# Ten of the slowest known update periods: an idle GPU draws watts, so its counter must have moved.
WATCHED_SECONDS = 1.0
LEAST_WATTS = 1.0
MOST_WATTS = 2_000.0


def test_the_counter_of_every_gpu_rises_as_fast_as_a_gpu_can_draw() -> None:
    try:
        choice = choose_counters("nvml", time.monotonic, os.getpid(), os.environ)
    except SourceUnavailableError as problem:
        pytest.skip(f"NVML cannot measure here: {problem}")
    try:
        before = [counter.read() for counter in choice.counters]
        time.sleep(WATCHED_SECONDS)
        after = [counter.read() for counter in choice.counters]
        infos = [counter.info for counter in choice.counters]
    finally:
        for counter in choice.counters:
            counter.close()
    assert infos
    for info, first, last in zip(infos, before, after, strict=True):
        joules = (last.energy_microjoules - first.energy_microjoules) / 1_000_000
        power_watts = joules / (last.at_seconds - first.at_seconds)
        print(f"{info.device}: {power_watts:.1f} W ({info.description})")  # noqa: T201  # shown with -s or -rP
        assert LEAST_WATTS < power_watts < MOST_WATTS
        assert (info.component, info.source, info.measured) == ("gpu", "nvml", True)
