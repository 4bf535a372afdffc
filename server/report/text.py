"""A summary as text: a table to read, CSV for spreadsheets, JSON for programs."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Final

from metering.counter import MICROJOULES_PER_JOULE
from server.ledger.summary import Summary, Totals
from server.report.figures import JOULES_PER_KWH, flat_columns, summary_body

TABLE_HEADINGS: Final = ("requests", "prompt tokens", "output tokens", "energy J", "J/output token", "g CO2eq")
_GAP: Final = "  "


def json_report(summary: Summary) -> str:
    """The object that `GET /v1/energy/summary` answers with."""
    return json.dumps(summary_body(summary), indent=2) + "\n"


def csv_report(summary: Summary) -> str:
    """One line a group, and no total, so that a spreadsheet's own sum is right."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*summary.query.by, *flat_columns(Totals())])
    for group in summary.groups:
        writer.writerow([*group.key, *flat_columns(group.totals).values()])
    return text.getvalue()


def table_report(summary: Summary) -> str:
    """Aligned columns, a line of totals, and what the numbers leave open."""
    by = summary.query.by
    lines = [[*by, *TABLE_HEADINGS]]
    if by:
        lines += [[*map(shown_key, group.key), *table_cells(group.totals)] for group in summary.groups]
    lines.append([*(["total"] if by else []), *[""] * (len(by) - 1), *table_cells(summary.total)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    ruler = _GAP.join("-" * width for width in widths)
    rows = [_aligned(line, widths, len(by)) for line in lines]
    rows.insert(1, ruler)
    if by:
        rows.insert(-1, ruler)
    return "\n".join([*rows, "", *notes(summary.total)]) + "\n"


def table_cells(totals: Totals) -> list[str]:
    """A group's figures, in the order of TABLE_HEADINGS."""
    per_token, carbon = totals.joules_per_output_token, totals.known_carbon_g_co2eq
    return [
        f"{totals.requests:,}",
        f"{totals.prompt_tokens:,}",
        f"{totals.output_tokens:,}",
        shown_joules(totals.energy_microjoules),
        "-" if per_token is None else f"{per_token:.4f}",
        "-" if carbon is None else f"{carbon:,.3f}",
    ]


def notes(total: Totals) -> list[str]:
    """What a reader must know of the figures: how they came about, and what they do not hold."""
    outcomes = {"failed": total.failed_requests, "refused": total.refused_requests, "aborted": total.aborted_requests}
    told = [f"{total.energy_joules / JOULES_PER_KWH:.6f} kWh"]
    if total.energy_microjoules:
        told[0] += f", {total.measured_microjoules / total.energy_microjoules:.1%} of it measured by hardware"
    if any(outcomes.values()):
        told.append(", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items() if count))
    if total.requests_of_unknown_energy:
        told.append(f"the energy of {total.requests_of_unknown_energy:,} request(s) is not known")
    if total.known_carbon_g_co2eq is not None and total.microjoules_without_carbon:
        told.append(f"carbon is not known for {shown_joules(total.microjoules_without_carbon)} J")
    return told


def shown_joules(microjoules: int) -> str:
    """To the millijoule, rounded in integers: a float would be off beyond 2^53 microjoules."""
    whole, rest = divmod(microjoules + 500, MICROJOULES_PER_JOULE)
    return f"{whole:,}.{rest // 1000:03d}"


def shown_key(value: str) -> str:
    """What stands for a request without a worker, say."""
    return value or "-"


def _aligned(cells: Sequence[str], widths: Sequence[int], left: int) -> str:
    """Names to the left, numbers to the right."""
    padded = [
        cell.ljust(width) if number < left else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return _GAP.join(padded).rstrip()
