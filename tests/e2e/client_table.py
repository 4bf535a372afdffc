"""The table of what clients can do: a row for each `@pytest.mark.client(NAME, FEATURE, ENERGY)`, with its result."""

from dataclasses import dataclass

import pytest

MARKER = "client"
NOT_APPLICABLE = "–"


@dataclass(slots=True)
class _Row:
    energy: str
    outcomes: set[str]

    @property
    def result(self) -> str:
        if self.outcomes == {"passed"}:
            return "passed"
        return "failed" if "failed" in self.outcomes else "skipped"


class ClientTable:
    """Collects outcomes; a parametrised test is one row, and failed where any of it did."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], _Row] = {}

    def take(self, item: pytest.Item, report: pytest.TestReport) -> None:
        marker = item.get_closest_marker(MARKER)
        if marker is None or (report.when != "call" and report.passed):
            return
        client, feature, *energy = marker.args
        row = self._rows.setdefault((client, feature), _Row(energy[0] if energy else NOT_APPLICABLE, set()))
        row.outcomes.add(report.outcome)

    def lines(self) -> list[str]:
        """In Markdown; empty where no test had the marker."""
        if not self._rows:
            return []
        head = ["| client | feature | result | energy readable where |", "|---|---|---|---|"]
        rows = sorted(self._rows.items(), key=lambda item: item[0][0])
        return head + [f"| {client} | {feature} | {row.result} | {row.energy} |" for (client, feature), row in rows]
