"""The one line at the end: what was served, and what it took. What is not known is said to be so, with the reason."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from metering.counter import MICROJOULES_PER_JOULE
from server.live.tally import LiveTally
from server.roster import Roster
from server.units import UNKNOWN, format_joules, format_ratio

_OF_REQUESTS: Final = ("prefill", "decode")


@dataclass(frozen=True, slots=True)
class Served:
    """Counts of the whole run."""

    requests: int
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class WorkerBill:
    """One worker's energy by account since the server's start, over all its lives.

    `source` is None where it never told any, for a `reason`.
    """

    worker_id: str
    source: str | None
    measured: bool
    reason: str | None
    accounts_microjoules: Mapping[str, int]


def served_by(tally: LiveTally) -> Served:
    """What the server counted."""
    return Served(sum(tally.outcomes.values()), tally.prompt_tokens, tally.output_tokens)


def bills_of(roster: Roster) -> list[WorkerBill]:
    """What each worker has told of its energy."""
    bills = []
    for member in roster.members():
        energy, accounts = member.energy, dict[str, int]()
        for (_, account), microjoules in energy.totals_since_start():
            accounts[account] = accounts.get(account, 0) + microjoules
        is_silent = bool(member.models) and not member.metered
        reason = "it tells no energy" if is_silent else energy.reason
        bills.append(WorkerBill(member.worker_id, energy.source, energy.measured, reason, accounts))
    return bills


def summary_line(served: Served, bills: Sequence[WorkerBill], seconds: float) -> str:
    """For people, and for the last line of the log."""
    return (
        f"stopped after {seconds:.0f} s: {served.requests} requests, {served.output_tokens} output tokens, "
        f"{served.prompt_tokens} prompt tokens, {_energy(served, bills)}"
    )


def _energy(served: Served, bills: Sequence[WorkerBill]) -> str:
    known = [bill for bill in bills if bill.source is not None]
    unknown = [bill for bill in bills if bill.source is None]
    missing = ", ".join(f"{bill.worker_id}: {bill.reason or 'it told none'}" for bill in unknown)
    if not known:
        return f"energy {UNKNOWN} ({missing or 'there was no worker'})"
    accounts = {name: _sum(known, name) for name in {name for bill in known for name in bill.accounts_microjoules}}
    total = sum(accounts.values())
    of_requests = sum(accounts.get(name, 0) for name in _OF_REQUESTS) / MICROJOULES_PER_JOULE
    idle = format_ratio(accounts.get("idle", 0) / total) if total else UNKNOWN
    # Tokens of a worker that tells no energy would make the others' look cheaper.
    per_token = None if unknown or not served.output_tokens else of_requests / served.output_tokens
    each = f", {format_joules(per_token)} per output token" if served.output_tokens else ""
    return (
        f"energy {format_joules(total / MICROJOULES_PER_JOULE)} ({_nature(known)}): requests "
        f"{format_joules(of_requests)}{each}, idle {idle}" + (f"; not known of {missing}" if unknown else "")
    )


def _sum(bills: Iterable[WorkerBill], account: str) -> int:
    return sum(bill.accounts_microjoules.get(account, 0) for bill in bills)


def _nature(bills: Sequence[WorkerBill]) -> str:
    """Whether hardware was read; measured only where it was for all."""
    sources = "+".join(sorted({source for bill in bills if (source := bill.source) is not None}))
    if all(bill.measured for bill in bills):
        return f"measured: {sources}"
    return f"partly measured: {sources}" if any(bill.measured for bill in bills) else f"not measured: {sources}"
