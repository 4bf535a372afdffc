"""`python -m server.metrics_page`: writes docs/metrics.md from the catalogue, or says whether it is as it should be."""

import argparse
import json
import sys
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Final

from server import metric_catalogue as catalogue
from server.metric_family import Family, Label

_PAGE: Final = Path(__file__).parents[1] / "docs" / "metrics.md"
_COMMAND: Final = "python -m server.metrics_page"
# The first family of each part of the catalogue.
_PARTS: Final = {
    catalogue.ENERGY: "Energy and carbon",
    catalogue.REQUESTS: "Requests",
    catalogue.BUILD: "Scheduler and workers",
    catalogue.TENANT_REFUSALS: "Tenants, keys and the ledger",
}
# Sizes that an operator chooses, and the fleet that the sum is worked out for.
_SIZES: Final = {
    "W": ("workers", 50),
    "M": ("model names and `unknown`", 4),
    "C": ("components that a worker meters", 1),
    "D": ("hardware counters of a worker", 1),
}
_HEAD: Final = f"""\
# Metrics

<!-- Written by `{_COMMAND}` from server/metric_catalogue.py; with --check it tells whether it is up to date. -->

`GET /metrics` answers in Prometheus' text format. Units are base units (joules, watts, seconds, ratios from 0 to 1),
and counters end in `_total`. Once a key exists the page wants that of an administrating tenant, for it names every
tenant ([access.md](access.md)). Ready-made rules, alerts and dashboards are in `deploy/prometheus/` and
`deploy/grafana/`; what to do about an alert is in [alerts.md](alerts.md), and how the round-robin estimate is made in
[round-robin-estimate.md](round-robin-estimate.md).

What is a state or a total of workers, tenants or the ledger is read from its owner at each scrape. A worker that is
scraped alone ([metering.md](metering.md)) shows the first four families of energy under the same names.
"""


def metric_names() -> dict[str, tuple[str, ...]]:
    """Every name that a query may select, suffixes included, with its labels."""
    names: dict[str, tuple[str, ...]] = {}
    for family in catalogue.FAMILIES:
        for name in family.sample_names:
            names[name] = (*family.label_names, "le") if name.endswith("_bucket") else family.label_names
    return names


def page() -> str:
    """The whole page."""
    lines = [_HEAD.rstrip()]
    for family in catalogue.FAMILIES:
        if (title := _PARTS.get(family)) is not None:
            lines += [
                f"\n## {title}\n",
                "| Family | Type | Labels | Meaning | Series at most |",
                "|---|---|---|---|---|",
            ]
        lines.append(_row(family))
    lines += ["\n## Labels\n", "| Label | Values | At most |", "|---|---|---|"]
    labels = dict.fromkeys(label for family in catalogue.FAMILIES for label in family.labels)
    lines += [_label_row(label) for label in labels]
    return "\n".join((*lines, _cardinality()))


def _row(family: Family) -> str:
    labels = " ".join(f"`{name}`" for name in family.label_names)
    text = family.text + (f" Absent: {family.absent}." if family.absent else "")
    bound = " × ".join(map(str, family.bounds)) or "1"
    return f"| `{family.shown_name}` | {family.kind} | {labels} | {text} | {bound} |"


def _label_row(label: Label) -> str:
    families = [family.shown_name for family in catalogue.FAMILIES if label in family.labels]
    where = f" (of `{families[0]}`)" if _is_ambiguous(label) else ""
    return f"| `{label.name}`{where} | {label.text} | {label.bound} |"


def _is_ambiguous(label: Label) -> bool:
    return len({other for family in catalogue.FAMILIES for other in family.labels if other.name == label.name}) > 1


def _cardinality() -> str:
    sizes = ", ".join(f"{letter} is the number of {meaning}" for letter, (meaning, _) in _SIZES.items())
    fleet = ", ".join(f"{letter} = {example}" for letter, (_, example) in _SIZES.items())
    series = sum(prod(_number(bound) for bound in family.bounds) for family in catalogue.FAMILIES)
    return f"""
## Cardinality

No label holds anything that a caller made up, so the page has a bound. The letters are sizes that the operator chooses:
{sizes}.

A histogram has a series for each bucket and three more. With {fleet} and all
{catalogue.MAX_TENANTS + 1} labels of tenants there are {series:,} series if every combination occurs; one that never
occurred is not there.

A scrape asks every worker for its energy first. Of 50 busy workers (1,716 series) it took 37 ms of CPU time, on one
virtual core of an AMD EPYC; `wattline bench scrape` measures it, and what it does to others who ask meanwhile.
"""


def _number(bound: int | str) -> int:
    return _SIZES[bound][1] if isinstance(bound, str) else bound


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 where the page is to be checked and is not as it should be."""
    parser = argparse.ArgumentParser(prog=_COMMAND, description="Write docs/metrics.md from the code.")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="write nothing; fail if the page is not up to date")
    choice.add_argument("--names", action="store_true", help="print every name with its labels, as JSON")
    chosen = parser.parse_args(arguments)
    if chosen.names:
        sys.stdout.write(json.dumps(metric_names(), indent=1) + "\n")
    elif not chosen.check:
        _PAGE.write_text(page())
    elif not _PAGE.exists() or _PAGE.read_text() != page():
        sys.stderr.write(f"docs/metrics.md is not up to date: run {_COMMAND}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
