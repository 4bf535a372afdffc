"""What can be measured on this machine, with live watts: the contents of `wattline meter`.

Opens the counters, reads them for a moment and closes them; formats for people and for programs.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from metering.choice import choose_counters
from metering.counter import MICROJOULES_PER_JOULE
from metering.errors import CounterReadError
from metering.sources.estimate import COEFFICIENTS_SOURCE, IDLE_WATTS_KEY, MAX_WATTS_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.choice import Refusal
    from metering.counter import CounterInfo, EnergyCounter, EnergyReading

READ_PERIOD_SECONDS = 0.1
"""A source that integrates power is only as good as it is often read."""

ESTIMATE_COVERS = "the estimate covers the engine's processes only; here, for want of an engine, this command's own"
ESTIMATE_COEFFICIENTS = (
    f"its coefficients are set by {IDLE_WATTS_KEY} and {MAX_WATTS_KEY}; defaults: {COEFFICIENTS_SOURCE}"
)


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """One counter, and its mean power over the report's interval; None with the reason where it did not answer."""

    info: CounterInfo
    power_watts: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ComponentPower:
    """The sum over a component's devices; None where one of them is not known."""

    component: str
    power_watts: float | None


@dataclass(frozen=True, slots=True)
class MeterReport:
    """What `setting` chose on this machine."""

    setting: str
    source: str
    measured: bool
    interval_seconds: float
    devices: tuple[DeviceReport, ...]
    refused: tuple[Refusal, ...]
    notes: tuple[str, ...]

    @property
    def components(self) -> tuple[ComponentPower, ...]:
        names = dict.fromkeys(device.info.component for device in self.devices)
        return tuple(ComponentPower(name, self._power_watts(name)) for name in names)

    def _power_watts(self, component: str) -> float | None:
        powers = [device.power_watts for device in self.devices if device.info.component == component]
        known = [power for power in powers if power is not None]
        return sum(known) if len(known) == len(powers) else None


def describe_machine(
    setting: str,
    environ: Mapping[str, str],
    clock: Callable[[], float],
    seconds: float = 1.0,
    *,
    wait: Callable[[float], object] = time.sleep,
) -> MeterReport:
    """Choose counters as the server would and measure their power over `seconds`.

    Raises:
        MeterSettingError: there is no such setting, or a source's own settings are wrong.
        SourceUnavailableError: the source asked for cannot be used here.
    """
    choice = choose_counters(setting, clock, os.getpid(), environ)
    try:
        devices = _measure(choice.counters, seconds, wait)
    finally:
        for counter in choice.counters:
            counter.close()
    return MeterReport(
        setting=setting,
        source=choice.source,
        measured=all(device.info.measured for device in devices),
        interval_seconds=seconds,
        devices=devices,
        refused=choice.refused,
        notes=(ESTIMATE_COVERS, ESTIMATE_COEFFICIENTS) if choice.source == "estimate" else (),
    )


def format_report(report: MeterReport) -> str:
    """Lay the report out for a terminal, one fact a line."""
    nature = "measured" if report.measured else "not measured"
    lines = [f"Energy source: {report.source} ({nature}; meter set to {report.setting})"]
    for device in report.devices:
        lines += _device_lines(device)
    lines.append(f"Power over {report.interval_seconds:g} s:")
    for component in report.components:
        watts = "unknown" if component.power_watts is None else f"{component.power_watts:.2f} W"
        lines.append(f"  {component.component}: {watts}")
    if report.refused:
        lines.append("Refused:")
        lines += [f"  {refusal.source}: {refusal.reason}" for refusal in report.refused]
    lines += [f"Note: {note}" for note in report.notes]
    return "\n".join(lines)


def to_json_dict(report: MeterReport) -> dict[str, Any]:
    """Give the report as plain JSON values; a power that is not known is null, with its reason."""
    return {
        "setting": report.setting,
        "source": report.source,
        "measured": report.measured,
        "interval_seconds": report.interval_seconds,
        "devices": [
            {**asdict(device.info), "power_watts": device.power_watts, "reason": device.reason}
            for device in report.devices
        ],
        "power_watts": {component.component: component.power_watts for component in report.components},
        "refused": [asdict(refusal) for refusal in report.refused],
        "notes": list(report.notes),
    }


def _measure(
    counters: tuple[EnergyCounter, ...], seconds: float, wait: Callable[[float], object]
) -> tuple[DeviceReport, ...]:
    intervals = max(1, round(seconds / READ_PERIOD_SECONDS))
    looks = [_read_all(counters)]
    for _ in range(intervals):
        wait(seconds / intervals)
        looks.append(_read_all(counters))
    return tuple(
        _device_report(counter.info, looks[0][index], looks[-1][index]) for index, counter in enumerate(counters)
    )


def _read_all(counters: tuple[EnergyCounter, ...]) -> list[EnergyReading | CounterReadError]:
    return [_read(counter) for counter in counters]


def _read(counter: EnergyCounter) -> EnergyReading | CounterReadError:
    try:
        return counter.read()
    except CounterReadError as problem:
        return problem


def _device_report(
    info: CounterInfo, first: EnergyReading | CounterReadError, last: EnergyReading | CounterReadError
) -> DeviceReport:
    if isinstance(first, CounterReadError):
        return DeviceReport(info, None, str(first))
    if isinstance(last, CounterReadError):
        return DeviceReport(info, None, str(last))
    elapsed_seconds = last.at_seconds - first.at_seconds
    energy_microjoules = last.energy_microjoules - first.energy_microjoules
    if elapsed_seconds <= 0 or energy_microjoules < 0:
        return DeviceReport(info, None, "the counter or the clock was set back during the measurement")
    return DeviceReport(info, energy_microjoules / MICROJOULES_PER_JOULE / elapsed_seconds)


def _device_lines(device: DeviceReport) -> list[str]:
    info = device.info
    error = "not stated" if info.uncertainty_ratio is None else f"{info.uncertainty_ratio:g}"
    lines = [
        f"  {info.component} {info.device}: {info.description}",
        f"    refreshed every {info.update_period_seconds:g} s, uncertainty ratio {error}",
    ]
    return lines if device.reason is None else [*lines, f"    no power: {device.reason}"]
