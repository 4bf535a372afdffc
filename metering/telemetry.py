"""What a worker reports of its energy: the body of `GET /energy`. Integer microjoules, so that sums are exact."""

from typing import Any

from metering.block import RequestEnergy
from metering.counter import CounterInfo
from metering.fault import CounterFault
from metering.meter import EnergyMeter


def telemetry(meter: EnergyMeter | None, unmeasured_reason: str, now_seconds: float) -> dict[str, Any]:
    """Accounts, in-flight energy, power and the latest requests.

    The law: for the sum over components, accounts + in_flight == counter + extrapolated, exactly.
    """
    if meter is None:
        return {"source": None, "measured": False, "reason": unmeasured_reason}
    confirmed = meter.confirmed_microjoules()
    totals = meter.totals
    by_component = dict(zip(meter.components, meter.ledgers, strict=True))
    return {
        "source": meter.source,
        "measured": meter.measured,
        "counter_microjoules": confirmed,
        "extrapolated_microjoules": meter.assigned_microjoules() - confirmed,
        "counter_epochs": meter.epochs,
        "counter_faults": {
            _name(info): {fault.value: faults[fault] for fault in CounterFault} for info, faults in meter.faults()
        },
        "accounts_microjoules": {name: dict(ledger.accounts) for name, ledger in by_component.items()},
        "in_flight_microjoules": {
            name: {"prefill": ledger.in_flight_prefill, "decode": ledger.in_flight_decode}
            for name, ledger in by_component.items()
        },
        "power_watts": meter.power_watts(now_seconds),
        "requests_total": {"completed": totals.completed, "aborted": totals.aborted},
        "requests_microjoules": {
            "completed": totals.completed_microjoules,
            "aborted": totals.aborted_microjoules,
        },
        "tokens_total": {"prompt": totals.prompt_tokens, "output": totals.output_tokens},
        "recent_requests": [_summary(request) for request in meter.recent],
        "recent_aborts": [_summary(request) for request in meter.recent_aborts],
    }


def _name(info: CounterInfo) -> str:
    """A counter's name on metrics pages. A model of a process goes by its source: numbers of processes never end."""
    return f"{info.component}:{info.device if info.measured else info.source}"


def _summary(request: RequestEnergy) -> dict[str, Any]:
    return {
        "request_id": request.request_id,
        "outcome": request.outcome,
        "prefill_microjoules": request.prefill_microjoules,
        "decode_microjoules": request.decode_microjoules,
        "prompt_tokens": request.prompt_tokens,
        "output_tokens": request.output_tokens,
    }
