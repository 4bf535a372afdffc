"""Which latency the server promises when the operator names none."""

from typing import Final

from scheduler.targets import LatencyTargets

# A step of a small model takes a CPU engine about 50 ms by itself, so the targets of a GPU cannot be met there.
_CPU_DEFAULTS: Final = LatencyTargets(ttft_seconds=5.0, tpot_seconds=0.5)


def latency_targets(device: str, ttft_seconds: float | None, tpot_seconds: float | None) -> LatencyTargets:
    """The targets in force: what the operator set, each by itself, and for the rest what `device` can keep to."""
    defaults = _CPU_DEFAULTS if device == "cpu" else LatencyTargets()
    return LatencyTargets(
        ttft_seconds=defaults.ttft_seconds if ttft_seconds is None else ttft_seconds,
        tpot_seconds=defaults.tpot_seconds if tpot_seconds is None else tpot_seconds,
    )


def describe_targets(targets: LatencyTargets) -> str:
    """For the terminal."""
    return f"p99 TTFT {targets.ttft_seconds:g} s, p99 TPOT {targets.tpot_seconds:g} s"
