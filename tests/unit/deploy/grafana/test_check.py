"""The check of queries against the metrics that the server declares, on files with faults made on purpose."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.grafana.check import problems, scraped_series
from deploy.grafana.queries import panel_queries, rules, substituted, variable_queries

RULES = """
groups:
  - name: one
    rules:
      - record: wattline:energy:rate5m
        expr: sum by (model) (rate(wattline_energy_joules_total[5m]))
        labels: {window: 5m}
      - alert: Much
        expr: wattline:energy:rate5m > 100
"""


def board(expression: str, legend: str = "", variable: str = "label_values(up, job)") -> dict[str, Any]:
    target = {"refId": "A", "expr": expression, "legendFormat": legend}
    query = {"type": "query", "name": "job", "query": variable}
    return {
        "title": "Board",
        "panels": [{"title": "Row"}, {"title": "Panel", "targets": [target]}],
        "templating": {"list": [{"type": "datasource", "name": "datasource"}, query]},
    }


def found(tmp_path: Path, dashboard: dict[str, Any], rule_file: str = RULES) -> list[str]:
    (tmp_path / "board.json").write_text(json.dumps(dashboard))
    (tmp_path / "rules.yml").write_text(rule_file)
    return problems(tmp_path, tmp_path)


def test_what_is_shipped_names_only_what_exists() -> None:
    assert len(panel_queries()) > 80
    assert problems() == []


def test_every_metric_of_the_server_is_known_with_its_labels() -> None:
    known = scraped_series()
    assert known["wattline_power_watts"] == {"job", "instance", "worker", "component"}
    assert known["wattline_request_energy_joules_bucket"] == {"job", "instance", "model", "le"}
    assert "wattline_request_energy_joules" not in known
    assert "wattline_tokens" not in known


@pytest.mark.parametrize(
    "expression",
    [
        'sum by (model) (rate(wattline_energy_joules_total{job=~"$job"}[$__rate_interval]))',
        "wattline:energy:rate5m",
        'wattline:energy:rate5m{window="5m"}',
        "increase(wattline_tokens_total[$__range])",
        "scrape_duration_seconds",
    ],
)
def test_good_queries_pass(tmp_path: Path, expression: str) -> None:
    assert found(tmp_path, board(expression)) == []


@pytest.mark.parametrize(
    ("dashboard", "fault"),
    [
        (board("wattline_power"), "there is no metric wattline_power"),
        (board("rate(wattline_tokens[5m])"), "there is no metric wattline_tokens"),
        (board('wattline_power_watts{tenant="a"}'), "has no label tenant"),
        (board("wattline:energy:rate1h"), "there is no metric wattline:energy:rate1h"),
        (board("sum by (worker) (wattline:energy:rate5m)"), "has no label worker"),
        (board("sum(wattline_power_watts)", "{{worker}}"), "no series has the label worker"),
        (board("up", variable="label_values(wattline_power_watts, model)"), "no series has the label model"),
        (board("up", variable="label_values(wattline_nothing, model)"), "there is no metric wattline_nothing"),
        (board("sum((up)"), "no PromQL"),
    ],
)
def test_faults_of_dashboards_are_told(tmp_path: Path, dashboard: dict[str, Any], fault: str) -> None:
    (line,) = found(tmp_path, dashboard)
    assert line.startswith("Board, ")
    assert fault in line


def test_faults_of_rules_are_told_and_what_hangs_on_them(tmp_path: Path) -> None:
    lines = found(tmp_path, board("up"), RULES.replace("energy_joules_total", "energy_total"))
    assert lines == ["wattline:energy:rate5m: there is no metric wattline_energy_total"]


def test_a_rule_may_read_one_that_stands_below_it(tmp_path: Path) -> None:
    one = "- {record: wattline:a, expr: 'sum by (model) (wattline:b)'}"
    other = "- {record: wattline:b, expr: 'wattline_tokens_total'}"
    text = f"groups:\n  - name: one\n    rules:\n      {one}\n      {other}\n"
    assert found(tmp_path, board("wattline:a", "{{model}}"), text) == []


def test_rules_that_read_each_other_are_told(tmp_path: Path) -> None:
    one = "- {record: wattline:a, expr: 'wattline:b'}"
    other = "- {record: wattline:b, expr: 'wattline:a'}"
    text = f"groups:\n  - name: one\n    rules:\n      {one}\n      {other}\n"
    assert found(tmp_path, board("up"), text) != []


def test_a_variable_that_asks_for_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="variable job"):
        found(tmp_path, board("up", variable="query_result(up)"))


def test_rules_and_variables_are_read_with_what_they_are(tmp_path: Path) -> None:
    found(tmp_path, board("up"))
    assert [(rule.name, rule.is_alert) for rule in rules(tmp_path)] == [
        ("wattline:energy:rate5m", False),
        ("Much", True),
    ]
    (variable,) = variable_queries(tmp_path)
    assert (variable.selector, variable.label) == ("up", "job")


def test_variables_are_replaced_as_grafana_does() -> None:
    values = {"job": "wattline", "model": ".*", "__range": "60s"}
    expression = 'increase(a{job=~"$job", model=~"${model}"}[$__range])'
    assert substituted(expression, values) == 'increase(a{job=~"wattline", model=~".*"}[60s])'
    with pytest.raises(KeyError):
        substituted("$tenant", values)
