"""Which counters to use: what the operator set, or the best this machine has.

The one place that knows every source. It decides once, at start-up, and keeps the reason for each refusal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metering.errors import MeterSettingError, SourceUnavailableError
from metering.sources.estimate import EstimateCoefficients, ProcessEstimateCounter
from metering.sources.nvml import open_nvml_counters
from metering.sources.replay import load_replay

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.counter import EnergyCounter

REPLAY_PREFIX = "replay:"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A source that was tried and cannot be used, and why, for people to read."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class MeterChoice:
    """The counters to read, all of one source, and the better sources that were refused."""

    counters: tuple[EnergyCounter, ...]
    source: str
    refused: tuple[Refusal, ...] = ()


def choose_counters(setting: str, clock: Callable[[], float], root_pid: int, environ: Mapping[str, str]) -> MeterChoice:
    """Open the counters `setting` asks for: `auto`, `nvml`, `estimate` or `replay:FILE`.

    `auto` takes nvml where it can measure the GPUs this process sees, else the estimate of `root_pid` and its
    descendants. Whoever calls closes the counters.

    Raises:
        MeterSettingError: there is no such setting, or a source's own settings are wrong.
        SourceUnavailableError: the source asked for cannot be used here.
    """
    if setting.startswith(REPLAY_PREFIX):
        return _replay(setting, clock)
    if setting == "nvml":
        return _nvml(clock, environ)
    if setting == "estimate":
        return _estimate(clock, root_pid, environ)
    if setting == "auto":
        return _best(clock, root_pid, environ)
    if setting == "rapl":
        message = "the meter is set to 'rapl', which is not available in this version: use auto, nvml or estimate"
        raise MeterSettingError(message)
    message = f"the meter is set to {setting!r}: expected auto, nvml, estimate or replay:FILE"
    raise MeterSettingError(message)


def _best(clock: Callable[[], float], root_pid: int, environ: Mapping[str, str]) -> MeterChoice:
    try:
        return _nvml(clock, environ)
    except SourceUnavailableError as problem:
        refusals = (Refusal("nvml", str(problem)),)
    try:
        estimate = _estimate(clock, root_pid, environ)
    except SourceUnavailableError as problem:
        message = f"nothing can measure here: nvml: {refusals[0].reason}; estimate: {problem}"
        raise SourceUnavailableError(message) from problem
    return MeterChoice(estimate.counters, estimate.source, refusals)


def _nvml(clock: Callable[[], float], environ: Mapping[str, str]) -> MeterChoice:
    counters = open_nvml_counters(clock, environ.get("CUDA_VISIBLE_DEVICES"), environ.get("CUDA_DEVICE_ORDER"))
    return MeterChoice(tuple(counters), "nvml")


def _estimate(clock: Callable[[], float], root_pid: int, environ: Mapping[str, str]) -> MeterChoice:
    coefficients = EstimateCoefficients.from_environ(environ)
    counter = ProcessEstimateCounter(clock, root_pid, coefficients.idle_watts_per_vcpu, coefficients.max_watts_per_vcpu)
    return MeterChoice((counter,), "estimate")


def _replay(setting: str, clock: Callable[[], float]) -> MeterChoice:
    file = setting.removeprefix(REPLAY_PREFIX)
    if not file:
        message = f"the meter is set to {setting!r}: expected a recording's file name after the colon"
        raise MeterSettingError(message)
    return MeterChoice(tuple(load_replay(Path(file), clock)), "replay")
