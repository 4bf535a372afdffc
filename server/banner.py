"""What the operator reads while the server starts.

What is served, how it is measured, by what it is scheduled, where it is found. Words only; how they are laid out is the
console's affair.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scheduler.targets import LatencyTargets
from server.access.listening import is_loopback
from server.latency_targets import describe_targets
from server.ledger.address import default_ledger_url, ledger_address, shown_address
from server.meter_facts import MeterFacts
from server.served_models import ServedModel
from server.settings import Settings
from server.version import wattline_version


@dataclass(frozen=True, slots=True)
class BannerLine:
    """`is_warning` for what an operator should not miss."""

    label: str
    text: str
    is_warning: bool = False


@dataclass(frozen=True, slots=True)
class StartFacts:
    """What is known of a server that is about to start. `address` is where callers find it."""

    settings: Settings
    models: Sequence[ServedModel]
    meter: MeterFacts | None
    targets: LatencyTargets
    address: str
    host: str
    has_keys: bool


def heading(facts: StartFacts) -> str:
    """The first line; tests and scripts find the server by it."""
    return f"Wattline {wattline_version()}, listening on {facts.address}"


def banner_lines(facts: StartFacts) -> list[BannerLine]:
    """Everything below the first line, in the order it is read."""
    settings = facts.settings
    cap = "" if settings.power_cap_watts is None else f", at most {settings.power_cap_watts:g} W"
    return [
        *(BannerLine("model", text) for text in _models(facts.models)),
        BannerLine("energy", _energy(facts)),
        BannerLine("policy", f"{settings.policy}, targets {describe_targets(facts.targets)}{cap}"),
        _keys(facts),
        BannerLine("ledger", _ledger(settings)),
        BannerLine("API", f"{facts.address}/v1"),
        BannerLine("dashboard", f"{facts.address}/"),
        BannerLine("metrics", f"{facts.address}/metrics"),
        BannerLine("terminal", f"wattline top {facts.address}"),
    ]


def _models(models: Sequence[ServedModel]) -> Iterator[str]:
    for model in models:
        workers = len(model.worker_ids)
        if not model.is_attached:
            yield f"{', '.join(model.names)} on {_counted(workers, 'vLLM engine')} ({model.device})"
        elif model.names:
            yield f"{', '.join(model.names)} on {_counted(workers, 'attached server')}"
        else:
            yield f"those of {_counted(workers, 'attached server')}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _energy(facts: StartFacts) -> str:
    parts = []
    if (meter := facts.meter) is not None:
        nature = "measured" if meter.measured else "not measured"
        parts.append(f"{meter.source}, {nature} ({', '.join(meter.components)})")
        if not meter.measured and meter.refused:
            parts.append(f"{', '.join(meter.refused)} cannot be read here, `wattline meter` says why")
    if any(model.is_attached for model in facts.models):
        parts.append("as the attached servers tell it")
    return "; ".join(parts)


def _keys(facts: StartFacts) -> BannerLine:
    if facts.has_keys:
        return BannerLine("keys", "callers need a key (wattline keys list)")
    if is_loopback(facts.host):
        return BannerLine("keys", "none: whoever is on this machine may send requests")
    text = f"{facts.host} can be reached from other machines, and there are no keys: anyone may send requests"
    return BannerLine("keys", text, is_warning=True)


def _ledger(settings: Settings) -> str:
    address = ledger_address(settings.ledger_url or default_ledger_url(os.environ))
    if address is None:
        return "none: nothing is kept"
    return shown_address(address.set(drivername=address.drivername.partition("+")[0]))  # as operators write it
