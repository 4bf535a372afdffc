"""What is asked of Prometheus: every panel's and variable's query, every rule, read from the files that are shipped."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from deploy.grafana.dashboards import FOLDER

RULES_FOLDER: Final = Path(__file__).parents[1] / "prometheus" / "rules"
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_LABEL_VALUES: Final = re.compile(r"label_values\((.+),\s*(\w+)\)")
_LEGEND_LABEL: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """One query of a panel, with the variables still in it."""

    dashboard: str
    panel: str
    ref_id: str
    expression: str
    is_instant: bool
    legend_labels: frozenset[str]


@dataclass(frozen=True, slots=True)
class VariableQuery:
    """Where a dashboard's variable takes its values from: a label of the series that a selector chooses."""

    dashboard: str
    variable: str
    selector: str
    label: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A recording rule or an alert; `name` is what it records or is called."""

    name: str
    expression: str
    is_alert: bool
    labels: frozenset[str]


def panel_queries(folder: Path = FOLDER) -> list[PanelQuery]:
    """Every query of every panel, dashboard by dashboard."""
    return [
        PanelQuery(
            board["title"],
            panel["title"],
            target["refId"],
            target["expr"],
            bool(target.get("instant")),
            frozenset(_LEGEND_LABEL.findall(target.get("legendFormat", ""))),
        )
        for board in _boards(folder)
        for panel in board["panels"]
        for target in panel.get("targets", ())
    ]


def variable_queries(folder: Path = FOLDER) -> list[VariableQuery]:
    """The queries of the dashboards' variables.

    Raises:
        ValueError: a variable asks for something else than the values of a label.
    """
    found = []
    for board in _boards(folder):
        for variable in board["templating"]["list"]:
            if variable["type"] != "query":
                continue
            match = _LABEL_VALUES.fullmatch(variable["query"])
            if match is None:
                raise ValueError(f"{board['title']}: variable {variable['name']}: {variable['query']!r}")
            found.append(VariableQuery(board["title"], variable["name"], match[1], match[2]))
    return found


def rules(folder: Path = RULES_FOLDER) -> list[Rule]:
    """Every recording rule and alert, in the order of the files."""
    return [
        Rule(
            rule.get("record") or rule["alert"],
            str(rule["expr"]),
            "alert" in rule,
            frozenset(rule.get("labels", ())),
        )
        for path in sorted(folder.glob("*.yml"))
        for group in YAML(typ="safe").load(path)["groups"]
        for rule in group["rules"]
    ]


def substituted(expression: str, values: Mapping[str, str]) -> str:
    """The expression with Grafana's variables replaced.

    Raises:
        KeyError: there is no value for one of them.
    """
    return _VARIABLE.sub(lambda match: values[match[1] or match[2]], expression)


def _boards(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.json")):
        yield json.loads(path.read_text())
