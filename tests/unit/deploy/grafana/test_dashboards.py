"""What every dashboard keeps to, read from the files that are shipped."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from ruamel.yaml import YAML

from deploy.grafana.dashboards import FOLDER, rendered, stale, write

BOARDS: dict[str, dict[str, Any]] = {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
PROVISIONING = FOLDER.parent / "provisioning"
# Kinds of panel whose one unit stands in their defaults; a table has one for each column.
WITH_A_UNIT = {"timeseries", "stat", "bargauge"}


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def targets() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for board in BOARDS.values():
        for panel in panels(board):
            for target in panel["targets"]:
                yield panel, target


def references(value: object) -> Iterator[object]:
    """Every `datasource` anywhere inside."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "datasource":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_the_files_are_what_the_code_says() -> None:
    assert stale() == []


def test_links_to_the_dashboards_stay_good() -> None:
    uids = {name: board["uid"] for name, board in BOARDS.items()}
    assert uids == {
        "fleet-energy.json": "wattline-fleet-energy",
        "requests-tenants.json": "wattline-requests-tenants",
        "scheduler-slos.json": "wattline-scheduler-slos",
    }


def test_a_file_that_is_changed_missing_or_left_over_is_stale(tmp_path: Path) -> None:
    write(tmp_path)
    assert stale(tmp_path) == []
    (tmp_path / "fleet-energy.json").write_text("{}")
    (tmp_path / "scheduler-slos.json").unlink()
    (tmp_path / "of-old.json").write_text("{}")
    assert stale(tmp_path) == ["fleet-energy.json", "of-old.json", "scheduler-slos.json"]
    write(tmp_path)
    assert stale(tmp_path) == []


@pytest.mark.parametrize("name", BOARDS)
def test_no_panel_stands_over_another_or_outside(name: str) -> None:
    places = [panel["gridPos"] for panel in BOARDS[name]["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 and place["h"] > 0 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_has_a_number_a_title_a_description_and_a_unit(name: str) -> None:
    board = BOARDS[name]
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in panels(board):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        if panel["type"] in WITH_A_UNIT:
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_no_datasource_is_named_but_by_the_variable() -> None:
    found = [reference for board in BOARDS.values() for reference in references(board["panels"])]
    found += [reference for board in BOARDS.values() for reference in references(board["templating"])]
    assert found
    assert all(reference == {"type": "prometheus", "uid": "${datasource}"} for reference in found)


def test_variables_are_those_that_apply_and_several_values_may_be_chosen() -> None:
    names = {name: [variable["name"] for variable in board["templating"]["list"]] for name, board in BOARDS.items()}
    assert names == {
        "fleet-energy.json": ["datasource", "job", "model"],
        "requests-tenants.json": ["datasource", "job", "model", "tenant"],
        "scheduler-slos.json": ["datasource", "job", "model"],
    }
    for board in BOARDS.values():
        for variable in board["templating"]["list"][1:]:
            assert variable["multi"]
            assert variable["includeAll"]
            assert variable["current"]["value"] == ["$__all"]


def test_rates_follow_the_picture_and_every_selector_its_job() -> None:
    for panel, target in targets():
        expression = target["expr"]
        windows = re.findall(r"\[([^\]]+)\]", expression)
        assert set(windows) <= {"$__rate_interval", "$__range"}, panel["title"]
        assert "irate(" not in expression
        selectors = re.findall(r"\{[^}]*\}", expression)
        assert selectors, panel["title"]
        assert all('job=~"$job"' in selector for selector in selectors), panel["title"]


def test_no_panel_divides_by_nothing() -> None:
    for panel, target in targets():
        for divisor in re.findall(r"\) / (\S+)", target["expr"]):
            assert divisor.startswith("(sum"), panel["title"]


def test_workers_that_nobody_meters_are_shown_with_the_others() -> None:
    # A join on energy would show every worker that is left as measured.
    by_worker = [target["expr"] for _, target in targets() if "wattline_worker_measured" in target["expr"]]
    assert by_worker
    for expression in by_worker:
        assert " and on " not in expression
        assert (
            'unless on (job, instance, worker) wattline_energy_joules_total{job=~"$job", model!~"$model"}' in expression
        )


def test_what_shows_one_instant_asks_for_one() -> None:
    for panel, target in targets():
        is_instant = panel["type"] in {"table", "stat", "bargauge"}
        assert target["instant"] is is_instant, panel["title"]
        assert target["range"] is not is_instant, panel["title"]
        assert "$__range]" not in target["expr"] or is_instant, panel["title"]


def test_the_sdk_reads_what_it_has_written() -> None:
    for text in rendered().values():
        read = Dashboard.from_json(json.loads(text))
        assert json.loads(json.dumps(read, cls=JSONEncoder))["title"] == json.loads(text)["title"]


def test_provisioning_is_of_the_first_version_and_names_no_uid() -> None:
    yaml = YAML(typ="safe")
    (source,) = yaml.load(PROVISIONING / "datasources" / "wattline.yml")["datasources"]
    (provider,) = yaml.load(PROVISIONING / "dashboards" / "wattline.yml")["providers"]
    assert source["type"] == "prometheus"
    assert "uid" not in source
    assert provider["type"] == "file"
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


def test_grafana_knows_how_often_prometheus_scrapes() -> None:
    yaml = YAML(typ="safe")
    (source,) = yaml.load(PROVISIONING / "datasources" / "wattline.yml")["datasources"]
    shipped = yaml.load(FOLDER.parents[1] / "prometheus" / "prometheus.yml")
    (job,) = shipped["scrape_configs"]
    assert job["job_name"] == "wattline"
    assert source["jsonData"]["timeInterval"] == job.get("scrape_interval", shipped["global"]["scrape_interval"])
