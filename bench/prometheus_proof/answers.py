"""Everything that the shipped dashboards and rules ask, asked of a running Prometheus as Grafana would."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import promql_parser

from bench.prometheus_proof.prometheus import Pace, Prometheus, PrometheusError, Series
from deploy.grafana.queries import PanelQuery, Rule, panel_queries, rules, substituted, variable_queries

# What Grafana puts in the place of All, and what Prometheus' job is called in the shipped configuration.
_ALL: Final = ".*"
_JOB: Final = "wattline"
# Grafana's rate interval is four scrapes unless the picture is so coarse that one point of it is more.
_SCRAPES_IN_A_RATE: Final = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """One expression with what came back. `fault` says why that will not do; None where it will."""

    where: str
    what: str
    expression: str
    series: int
    value: float | None
    labels: dict[str, str]
    fault: str | None = None
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """The range that a dashboard shows, in Unix time, and the pace of the Prometheus behind it."""

    since_unix_seconds: float
    until_unix_seconds: float
    pace: Pace

    def variables(self) -> dict[str, str]:
        """As a dashboard has them when it is opened, the job apart."""
        return {
            "job": _JOB,
            "model": _ALL,
            "tenant": _ALL,
            "__rate_interval": f"{_SCRAPES_IN_A_RATE * self.pace.interval_seconds:g}s",
            "__interval": f"{self.pace.interval_seconds:g}s",
            "__range": f"{round(self.until_unix_seconds - self.since_unix_seconds)}s",
        }


def ask_everything(prometheus: Prometheus, shown: Shown) -> list[Asked]:
    """Every variable, panel, recording rule and alert, in this order."""
    asked = [*_variables(prometheus, shown)]
    asked += [_panel(prometheus, query, shown) for query in panel_queries()]
    asked += [_rule(prometheus, rule, shown) for rule in rules()]
    asked += _unhealthy(prometheus)
    return asked


def _variables(prometheus: Prometheus, shown: Shown) -> Iterator[Asked]:
    for query in variable_queries():
        selector = substituted(query.selector, shown.variables())
        values = prometheus.label_values(query.label, selector)
        fault = None if values else "no values"
        what = f"variable {query.variable}"
        yield Asked(query.dashboard, what, selector, len(values), None, {}, fault, ", ".join(values))


def _panel(prometheus: Prometheus, query: PanelQuery, shown: Shown) -> Asked:
    expression = substituted(query.expression, shown.variables())
    where, what = query.dashboard, f"{query.panel} ({query.ref_id})"
    try:
        if query.is_instant:
            found = prometheus.instant(expression, shown.until_unix_seconds)
        else:
            found = prometheus.over_time(
                expression, shown.since_unix_seconds, shown.until_unix_seconds, shown.pace.interval_seconds
            )
    except PrometheusError as error:
        return Asked(where, what, expression, 0, None, {}, str(error))
    return _judged(where, what, expression, found)


def _rule(prometheus: Prometheus, rule: Rule, shown: Shown) -> Asked:
    """A recording rule must have recorded; an alert that does not fire must have something that it looks at."""
    where = "alert" if rule.is_alert else "recording rule"
    expression = shown.pace.hurried(rule.expression)
    try:
        if not rule.is_alert:
            found = prometheus.over_time(
                rule.name, shown.since_unix_seconds, shown.until_unix_seconds, shown.pace.interval_seconds
            )
            return _judged(where, rule.name, expression, found)
        found = prometheus.instant(expression, shown.until_unix_seconds)
        if found:
            return _judged(where, rule.name, expression, found, "fires")
        for part in looked_at(expression):
            if seen := prometheus.instant(part, shown.until_unix_seconds):
                return _judged(where, rule.name, expression, seen, f"does not fire; of {part}")
    except PrometheusError as error:
        return Asked(where, rule.name, expression, 0, None, {}, str(error))
    return Asked(where, rule.name, expression, 0, None, {}, "looks at nothing that there is")


def _judged(where: str, what: str, expression: str, found: list[Series], remark: str = "") -> Asked:
    expression = " ".join(expression.split())  # rules are written over several lines
    numbers = [series for series in found if series.value is not None]
    if not numbers:
        return Asked(where, what, expression, len(found), None, {}, "no series" if not found else "no number")
    return Asked(where, what, expression, len(found), numbers[0].value, numbers[0].labels, None, remark)


def looked_at(expression: str) -> Iterator[str]:
    """Ever smaller parts of an alert's expression: what stands left of a comparison, or inside of a function."""
    node = promql_parser.parse(expression)
    while True:
        match node:
            case promql_parser.BinaryExpr():
                node = node.lhs
            case promql_parser.ParenExpr() | promql_parser.AggregateExpr() | promql_parser.UnaryExpr():
                node = node.expr
            case promql_parser.Call() if node.args:
                node = node.args[0]
            case promql_parser.MatrixSelector():
                node = node.vector_selector
            case _:
                return
        if not isinstance(node, promql_parser.MatrixSelector):
            yield str(node)


def _unhealthy(prometheus: Prometheus) -> Iterator[Asked]:
    """Rules whose evaluation failed in Prometheus itself."""
    for group in prometheus.rule_groups():
        for rule in group["rules"]:
            if rule["health"] == "err":
                yield Asked("rule group", rule["name"], rule["query"], 0, None, {}, rule["lastError"])
