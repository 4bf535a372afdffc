"""Waits for a machine on which little else runs.

Engines that get less of their cores fall behind, and batch more under any policy: the comparison is then of another
load.
"""

import time
from typing import Final

from bench.energy.cpu_time import machine_cpu_seconds

LOOK_SECONDS: Final = 5.0


def wait_for_quiet(most_cores: float, limit_seconds: float, look_seconds: float = LOOK_SECONDS) -> bool:
    """Waits until all processes together keep fewer cores busy than this; False where they did not in time."""
    deadline_seconds = time.monotonic() + limit_seconds
    while True:
        before, started_at_seconds = machine_cpu_seconds(), time.monotonic()
        time.sleep(look_seconds)
        if (machine_cpu_seconds() - before) / (time.monotonic() - started_at_seconds) <= most_cores:
            return True
        if time.monotonic() >= deadline_seconds:
            return False
