"""What can be measured on this machine, with live watts: the contents of `wattline meter`.

Opens the counters, reads them for a while and closes them; formats for people and for programs.
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from metering.choice import ENGINES_ON_HOST_KEY, choose_counters
from metering.counter import MICROJOULES_PER_JOULE
from metering.errors import CounterReadError
from metering.sources.estimate import COEFFICIENTS_SOURCE, IDLE_WATTS_KEY, MAX_WATTS_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from metering.choice import MeterChoice, Refusal
    from metering.counter import CounterInfo, EnergyCounter, EnergyReading

READ_PERIOD_SECONDS = 0.1
"""A source that integrates power is only as good as it is often read, and one that wraps must be."""
WATCH_PERIOD_SECONDS = 1.0
STANDS_STILL_PERIODS = 4
"""A counter that has not risen for so many of its update periods will not be taken for one that is late."""

ESTIMATE_COVERS = "the estimate covers the engine's processes only; here, for want of an engine, this command's own"
ESTIMATE_COEFFICIENTS = (
    f"its coefficients are set by {IDLE_WATTS_KEY} and {MAX_WATTS_KEY}; defaults: {COEFFICIENTS_SOURCE}"
)
HOST_COVERS = (
    "cpu and dram are the whole host's, whatever runs on it: where several engines share it, set "
    f"{ENGINES_ON_HOST_KEY} to their number, and none of them will count it"
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
    """What `setting` chose on this machine, and its power over the `interval_seconds` before `at_seconds`.

    `at_seconds` counts from when watching began.
    """

    setting: str
    source: str
    measured: bool
    interval_seconds: float
    devices: tuple[DeviceReport, ...]
    refused: tuple[Refusal, ...]
    notes: tuple[str, ...]
    at_seconds: float

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
    with closing(watch_machine(setting, environ, clock, seconds, wait=wait)) as reports:
        return next(reports)


def watch_machine(
    setting: str,
    environ: Mapping[str, str],
    clock: Callable[[], float],
    interval_seconds: float = WATCH_PERIOD_SECONDS,
    *,
    wait: Callable[[float], object] = time.sleep,
) -> Generator[MeterReport, None, None]:
    """Choose counters once, as the server would, and report their power over one interval after the other, for ever.

    The counters are closed when the caller stops asking.

    Raises:
        MeterSettingError: there is no such setting, or a source's own settings are wrong.
        SourceUnavailableError: the source asked for cannot be used here.
    """
    choice = choose_counters(setting, clock, os.getpid(), environ)
    try:
        began_at_seconds = clock()
        looks = _read_all(choice.counters)
        while True:
            before, looks = looks, _watch(choice.counters, interval_seconds, wait)
            devices = tuple(map(_device_report, (counter.info for counter in choice.counters), before, looks))
            yield _report(setting, choice, interval_seconds, devices, clock() - began_at_seconds)
    finally:
        for counter in choice.counters:
            counter.close()


def format_report(report: MeterReport) -> str:
    """Lay the report out for a terminal."""
    lines = [*describe_choice(report), f"Power over {report.interval_seconds:g} s:"]
    lines += [
        f"  {component.component}: {_watts(component.power_watts)}{_parts(report, component)}"
        for component in report.components
    ]
    lines += [f"  no power of {device.info.device}: {device.reason}" for device in report.devices if device.reason]
    return "\n".join([*lines, *describe_refusals(report)])


def describe_choice(report: MeterReport) -> list[str]:
    """Say what was chosen, and what is known of it."""
    nature = "measured" if report.measured else "not measured"
    lines = [f"Energy source: {report.source} ({nature}; meter set to {report.setting})"]
    for device in report.devices:
        lines += _device_lines(device.info)
    return lines


def describe_refusals(report: MeterReport) -> list[str]:
    """Say what was refused and why, how to mend it, and what else there is to know."""
    lines = ["Refused:"] if report.refused else []
    for refusal in report.refused:
        lines.append(f"  {refusal.source}: {refusal.reason}")
        lines += [f"    - {remedy}" for remedy in refusal.remedies]
    return lines + [f"Note: {note}" for note in report.notes]


def format_power_line(report: MeterReport) -> str:
    """Give one line of a running report: the time, and the power of each component."""
    powers = "   ".join(f"{component.component} {_watts(component.power_watts)}" for component in report.components)
    reasons = "".join(f"   ({device.info.device}: {device.reason})" for device in report.devices if device.reason)
    return f"{report.at_seconds:6.0f} s   {powers}{reasons}"


def to_json_dict(report: MeterReport) -> dict[str, Any]:
    """Give the report as plain JSON values; a power that is not known is null, with its reason."""
    return {
        "setting": report.setting,
        "source": report.source,
        "measured": report.measured,
        "at_seconds": round(report.at_seconds, 3),
        "interval_seconds": report.interval_seconds,
        "devices": [
            {**asdict(device.info), "power_watts": device.power_watts, "reason": device.reason}
            for device in report.devices
        ],
        "power_watts": {component.component: component.power_watts for component in report.components},
        "refused": [asdict(refusal) for refusal in report.refused],
        "notes": list(report.notes),
    }


def _report(
    setting: str, choice: MeterChoice, interval_seconds: float, devices: tuple[DeviceReport, ...], at_seconds: float
) -> MeterReport:
    return MeterReport(
        setting=setting,
        source=choice.source,
        measured=all(device.info.measured for device in devices),
        interval_seconds=interval_seconds,
        devices=devices,
        refused=choice.refused,
        notes=_notes({device.info.source for device in devices}),
        at_seconds=at_seconds,
    )


def _notes(sources: set[str]) -> tuple[str, ...]:
    if "estimate" in sources:
        return (ESTIMATE_COVERS, ESTIMATE_COEFFICIENTS)
    return (HOST_COVERS,) if sources & {"rapl", "zeusd", "apple"} else ()


def _watch(
    counters: tuple[EnergyCounter, ...], seconds: float, wait: Callable[[float], object]
) -> list[EnergyReading | CounterReadError]:
    """Read all along, and give what was read last."""
    looks: list[EnergyReading | CounterReadError] = []
    intervals = max(1, round(seconds / READ_PERIOD_SECONDS))
    for _ in range(intervals):
        wait(seconds / intervals)
        looks = _read_all(counters)
    return looks


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
    if energy_microjoules == 0 and not info.may_stand_still:
        is_long = elapsed_seconds > STANDS_STILL_PERIODS * info.update_period_seconds
        why = "it stands still, and no powered device draws nothing" if is_long else "it has not been refreshed yet"
        return DeviceReport(info, None, f"the counter answers, but {why}")
    return DeviceReport(info, energy_microjoules / MICROJOULES_PER_JOULE / elapsed_seconds)


def _device_lines(info: CounterInfo) -> list[str]:
    error = "not stated" if info.uncertainty_ratio is None else f"{info.uncertainty_ratio:g}"
    return [
        f"  {info.component} {info.device}: {info.description}",
        f"    refreshed every {info.update_period_seconds:g} s, uncertainty ratio {error}",
    ]


def _parts(report: MeterReport, component: ComponentPower) -> str:
    """Tell the devices apart where a component has more than one."""
    devices = [device for device in report.devices if device.info.component == component.component]
    parts = ", ".join(f"{device.info.device} {_watts(device.power_watts)}" for device in devices)
    return f" ({parts})" if len(devices) > 1 else ""


def _watts(power_watts: float | None) -> str:
    return "unknown" if power_watts is None else f"{power_watts:.2f} W"
