"""Which counters to use: what the operator set, or the best this machine has.

The one place that knows every source. It decides once, at start-up, and keeps the reason for each refusal.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metering.errors import MeteringError, MeterSettingError, SourceUnavailableError
from metering.sources.amdsmi import open_amdsmi_counters
from metering.sources.apple import open_apple_counters
from metering.sources.estimate import EstimateCoefficients, ProcessEstimateCounter
from metering.sources.nvml import open_nvml_counters
from metering.sources.opened import OpenedSource
from metering.sources.powercap import powercap_root
from metering.sources.rapl import open_rapl_counters
from metering.sources.replay import load_replay
from metering.sources.zeus import ZeusNotInstalledError
from metering.sources.zeusd import open_zeusd_counters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.counter import EnergyCounter

REPLAY_PREFIX = "replay:"
ENGINES_ON_HOST_KEY = "WATTLINE_ENGINES_ON_HOST"

# Best first; only the first that works is used, because they show the same hardware.
_GPU_SOURCES = ("nvml", "amdsmi")
_HOST_SOURCES = ("rapl", "zeusd")
_ZEUS_SOURCES = ("amdsmi", "zeusd", "apple") if sys.platform == "darwin" else ("amdsmi", "zeusd")
# Settings that want every one of these sources.
_EXPLICIT = {"nvml": ("nvml",), "rapl": ("rapl",), "nvml+rapl": ("nvml", "rapl"), "estimate": ("estimate",)}
EXPECTED = "expected auto, nvml, rapl, nvml+rapl, zeus, estimate or replay:FILE"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A source that was tried and cannot be used, why, and how to mend it, for people to read."""

    source: str
    reason: str
    remedies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MeterChoice:
    """The counters to read, and the sources, or parts of them, that were tried and refused.

    `source` joins the counters' own sources: `nvml+rapl`. All counters of one component are of one source, and add up.
    """

    counters: tuple[EnergyCounter, ...]
    source: str
    refused: tuple[Refusal, ...] = ()


def check_meter_setting(setting: str) -> None:
    """See that there is such a setting, whether or not this machine can follow it.

    Raises:
        MeterSettingError: there is none.
    """
    if setting.startswith(REPLAY_PREFIX):
        if setting == REPLAY_PREFIX:
            message = f"the meter is set to {setting!r}: expected a recording's file name after the colon"
            raise MeterSettingError(message)
    elif setting not in {"auto", "zeus", *_EXPLICIT}:
        message = f"the meter is set to {setting!r}: {EXPECTED}"
        raise MeterSettingError(message)


def choose_counters(
    setting: str,
    clock: Callable[[], float],
    root_pid: int,
    environ: Mapping[str, str],
    *,
    with_gpus: bool = True,
) -> MeterChoice:
    """Open the counters `setting` asks for: `auto`, a source, sources joined by `+`, or `replay:FILE`.

    `auto` takes the best source for the GPUs this process sees and the best for its host's processors and memory; where
    there is neither, the estimate of `root_pid` and its descendants. Without `with_gpus` it takes none for GPUs, as for
    an engine that runs on the CPU. Whoever calls closes the counters.

    Raises:
        MeterSettingError: there is no such setting, or a source's own settings are wrong.
        SourceUnavailableError: a source asked for cannot be used here.
    """
    check_meter_setting(setting)
    sources = _Sources(clock, root_pid, environ)
    if setting.startswith(REPLAY_PREFIX):
        return _choice([OpenedSource(tuple(load_replay(Path(setting.removeprefix(REPLAY_PREFIX)), clock)))])
    if setting == "auto":
        return _best(sources, with_gpus=with_gpus)
    if setting == "zeus":
        return _all_of_zeus(sources)
    return _every(sources, _EXPLICIT[setting])


class _Sources:
    """Opens sources by name, with what they need to know."""

    def __init__(self, clock: Callable[[], float], root_pid: int, environ: Mapping[str, str]) -> None:
        """Read the settings that concern more than one source.

        Raises:
            MeterSettingError: one of them is wrong.
        """
        self._clock = clock
        self._root_pid = root_pid
        self._environ = environ
        self._engines_on_host = _engines_on_host(environ)

    def open(self, source: str) -> OpenedSource:
        """Open a source.

        Raises:
            MeterSettingError: its own settings are wrong.
            SourceUnavailableError: it cannot be used here.
        """
        if source in {*_HOST_SOURCES, "apple"}:
            self._refuse_shared_host(source)
        environ = self._environ
        match source:
            case "nvml":
                visible, order = environ.get("CUDA_VISIBLE_DEVICES"), environ.get("CUDA_DEVICE_ORDER")
                return OpenedSource(tuple(open_nvml_counters(self._clock, visible, order)))
            case "amdsmi":
                return open_amdsmi_counters(self._clock, environ)
            case "rapl":
                return open_rapl_counters(self._clock, powercap_root(environ))
            case "zeusd":
                return open_zeusd_counters(self._clock, environ)
            case "apple":
                return open_apple_counters(self._clock)
            case _:
                return OpenedSource((self._estimate(),))

    def _estimate(self) -> EnergyCounter:
        coefficients = EstimateCoefficients.from_environ(self._environ)
        return ProcessEstimateCounter(
            self._clock, self._root_pid, coefficients.idle_watts_per_vcpu, coefficients.max_watts_per_vcpu
        )

    def _refuse_shared_host(self, source: str) -> None:
        if self._engines_on_host > 1:
            raise SourceUnavailableError(
                f"{source} shows the whole host, and {self._engines_on_host} engines share this one, each of which "
                f"would count all of it ({ENGINES_ON_HOST_KEY}={self._engines_on_host})",
                ("run one engine on a host", "leave the host out: --meter nvml, or without GPUs --meter estimate"),
            )


def _engines_on_host(environ: Mapping[str, str]) -> int:
    text = environ.get(ENGINES_ON_HOST_KEY, "1")
    if not text.isdecimal() or int(text) < 1:
        message = f"{ENGINES_ON_HOST_KEY} is {text!r}: expected the number of engines on this host, at least 1"
        raise MeterSettingError(message)
    return int(text)


def _best(sources: _Sources, *, with_gpus: bool) -> MeterChoice:
    refused: list[Refusal] = []
    opened = [_first(sources, _GPU_SOURCES, refused)] if with_gpus else []
    try:
        opened.append(_first(sources, _HOST_SOURCES, refused))
        if sys.platform == "darwin" and not any(opened):
            opened.append(_first(sources, ("apple",), refused))
        if not any(opened):
            opened.append(_first(sources, ("estimate",), refused))
    except MeteringError:
        _close(opened)
        raise
    used = [source for source in opened if source is not None]
    if not used:
        raise _nothing_works("nothing can measure here", refused)
    return _choice(used, refused)


def _first(sources: _Sources, names: Sequence[str], refused: list[Refusal]) -> OpenedSource | None:
    """Open the first source that works, and note the refusals of those before it."""
    for name in names:
        try:
            return sources.open(name)
        except ZeusNotInstalledError as problem:
            if all(refusal.source != "zeus" for refusal in refused):
                reason = "the zeus library, which reads AMD GPUs, Apple processors and zeusd, is not installed"
                refused.append(Refusal("zeus", reason, problem.remedies))
        except SourceUnavailableError as problem:
            refused.append(Refusal(name, problem.reason, problem.remedies))
    return None


def _every(sources: _Sources, names: Sequence[str]) -> MeterChoice:
    """Open everything that was asked for, or nothing."""
    opened: list[OpenedSource] = []
    try:
        for name in names:
            opened.append(sources.open(name))  # noqa: PERF401  what was opened before a failure must be closed
    except MeteringError:
        _close(opened)
        raise
    return _choice(opened)


def _all_of_zeus(sources: _Sources) -> MeterChoice:
    refused: list[Refusal] = []
    opened = [_first(sources, (name,), refused) for name in _ZEUS_SOURCES]
    used = [source for source in opened if source is not None]
    if not used:
        raise _nothing_works("zeus can measure nothing here", refused)
    return _choice(used, refused)


def _nothing_works(what: str, refused: Sequence[Refusal]) -> SourceUnavailableError:
    tried = "; ".join(f"{refusal.source}: {refusal.reason}" for refusal in refused)
    return SourceUnavailableError(f"{what}: {tried}", tuple(way for refusal in refused for way in refusal.remedies))


def _choice(opened: Sequence[OpenedSource], refused: Sequence[Refusal] = ()) -> MeterChoice:
    counters = tuple(counter for part in opened for counter in part.counters)
    names = dict.fromkeys(counter.info.source for counter in counters)
    left_out = [
        Refusal(part.counters[0].info.source, problem.reason, problem.remedies)
        for part in opened
        for problem in part.left_out
    ]
    return MeterChoice(counters, "+".join(names), (*refused, *left_out))


def _close(opened: Sequence[OpenedSource | None]) -> None:
    for source in opened:
        for counter in source.counters if source is not None else ():
            counter.close()
