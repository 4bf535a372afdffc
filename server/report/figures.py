"""What a report tells of each group, once, for every format: the JSON shape and the flat columns of CSV and table."""

from typing import Any, Final

from metering.counter import MICROJOULES_PER_JOULE
from server.ledger.summary import Summary, Totals

JOULES_PER_KWH: Final = 3_600_000


def summary_body(summary: Summary) -> dict[str, Any]:
    """A summary as `GET /v1/energy/summary` and `wattline report --format json` tell it."""
    query = summary.query
    return {
        "object": "energy.summary",
        "by": list(query.by),
        "since_unix_seconds": query.since_unix_seconds,
        "until_unix_seconds": query.until_unix_seconds,
        "filters": dict(query.filters),
        "groups": [dict(zip(query.by, group.key, strict=True)) | totals_body(group.totals) for group in summary.groups],
        "total": totals_body(summary.total),
    }


def totals_body(totals: Totals) -> dict[str, Any]:
    """Joules are microjoules over a million: six decimals are all there is."""
    return {
        "requests": {
            "total": totals.requests,
            "completed": totals.completed_requests,
            "failed": totals.failed_requests,
            "refused": totals.refused_requests,
            "aborted": totals.aborted_requests,
        },
        "tokens": {"prompt": totals.prompt_tokens, "output": totals.output_tokens},
        "energy_joules": totals.energy_joules,
        "energy_kwh": totals.energy_joules / JOULES_PER_KWH,
        "measured_joules": joules(totals.measured_microjoules),
        "estimated_joules": joules(totals.estimated_microjoules),
        "prefill_joules": joules(totals.prefill_microjoules),
        "decode_joules": joules(totals.decode_microjoules),
        "joules_per_output_token": totals.joules_per_output_token,
        "requests_of_unknown_energy": totals.requests_of_unknown_energy,
        "carbon_g_co2eq": totals.known_carbon_g_co2eq,
        "joules_without_carbon": joules(totals.microjoules_without_carbon),
        "mean_seconds": totals.mean_seconds,
        "mean_queue_seconds": totals.mean_queue_seconds,
        "mean_first_token_seconds": totals.mean_first_token_seconds,
    }


def flat_columns(totals: Totals) -> dict[str, Any]:
    """The same on one level, with the microjoules that add up exactly."""
    body = totals_body(totals)
    requests, tokens = body.pop("requests"), body.pop("tokens")
    counts = {"requests": requests.pop("total"), **{f"{outcome}_requests": n for outcome, n in requests.items()}}
    tokens = {f"{kind}_tokens": n for kind, n in tokens.items()}
    return counts | tokens | {"energy_microjoules": totals.energy_microjoules} | body


def joules(microjoules: int) -> float:
    """For showing, where the last bits no longer matter."""
    return microjoules / MICROJOULES_PER_JOULE
