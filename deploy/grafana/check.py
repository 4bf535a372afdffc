"""Command line: `python -m deploy.grafana.check` fails on queries of metrics or labels that do not exist.

Looked at are the dashboards' panels, legends and variables, and Prometheus' recording rules and alerts; what exists is
what the server declares, what the recording rules record, and what Prometheus adds of its own.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.grafana.dashboards import FOLDER, stale
from deploy.grafana.labels import Labels, QueryError, labels_of
from deploy.grafana.queries import RULES_FOLDER, Rule, panel_queries, rules, substituted, variable_queries
from server.metric_catalogue import FAMILIES

_SCRAPED: Final = frozenset({"job", "instance"})
# https://prometheus.io/docs/concepts/jobs_instances/: what a scrape adds by itself.
_PROMETHEUS_OWN: Final = ("up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_series_added")
# Grafana's variables stand in strings but for these, which are durations.
_DURATIONS: Final = {"__rate_interval": "1m", "__range": "1h", "__interval": "15s"}


class _AsTheyAre(dict[str, str]):
    """Variables without a value of their own stay what they are."""

    def __missing__(self, name: str) -> str:
        return f"${name}"


def scraped_series() -> dict[str, Labels]:
    """The names that queries may use of what is scraped, each with its labels."""
    found = dict.fromkeys(_PROMETHEUS_OWN, _SCRAPED)
    for family in FAMILIES:
        labels = _SCRAPED | frozenset(family.label_names)
        for name in family.sample_names:
            found[name] = labels | {"le"} if name.endswith("_bucket") else labels
    return found


def problems(dashboards: Path = FOLDER, rule_files: Path = RULES_FOLDER) -> list[str]:
    """What is wrong, one line each."""
    found: list[str] = []
    known = scraped_series()
    known |= _recorded(rules(rule_files), known, found)
    for panel in panel_queries(dashboards):
        where = f"{panel.dashboard}, {panel.panel}, {panel.ref_id}"
        _look(where, panel.expression, known, found, panel.legend_labels)
    for variable in variable_queries(dashboards):
        where = f"{variable.dashboard}, variable {variable.variable}"
        _look(where, variable.selector, known, found, [variable.label])
    return found


def _recorded(every: Sequence[Rule], scraped: Mapping[str, Labels], found: list[str]) -> dict[str, Labels]:
    """What the recording rules record, with its labels; one may read what another records, in whatever order."""
    recorded: dict[str, Labels] = {}
    waiting = list(every)
    names = {rule.name for rule in every if not rule.is_alert}
    while waiting:
        ready = [rule for rule in waiting if not _reads(rule, names - recorded.keys())]
        for rule in ready or waiting:
            labels = _look(rule.name, rule.expression, {**scraped, **recorded}, found)
            if not rule.is_alert:
                recorded[rule.name] = labels | rule.labels
        waiting = [rule for rule in waiting if rule not in ready] if ready else []
    return recorded


def _reads(rule: Rule, names: Iterable[str]) -> bool:
    return any(name in rule.expression for name in names)


def _look(
    where: str, expression: str, known: Mapping[str, Labels], found: list[str], shown: Iterable[str] = ()
) -> Labels:
    try:
        labels = labels_of(substituted(expression, _AsTheyAre(_DURATIONS)), known)
    except QueryError as error:
        found.append(f"{where}: {error}")
        return frozenset()
    if dropped := sorted(set(shown) - labels):
        found.append(f"{where}: no series has the label {', '.join(dropped)}")
    return labels


def main() -> None:
    """Print what is wrong and fail, or say nothing."""
    found = problems()
    found += [f"{name}: stale; `python -m deploy.grafana` writes it" for name in stale()]
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
