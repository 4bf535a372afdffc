"""The parts of the proof that need no Prometheus: what is changed of the shipped files, and what an alert looks at."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from bench.prometheus_proof.answers import Shown, looked_at
from bench.prometheus_proof.books import Agreement
from bench.prometheus_proof.prometheus import AS_SHIPPED, SHIPPED, Pace, configured
from bench.prometheus_proof.study import HURRIED
from deploy.grafana.queries import panel_queries, substituted


def test_windows_and_offsets_are_shortened_and_nothing_else() -> None:
    expression = 'rate(a{b="5m"}[5m]) > 5 and a offset 1h and increase(a[1d]) and b:rate5m'
    assert Pace(1.0, 60).hurried(expression) == (
        'rate(a{b="5m"}[5s]) > 5 and a offset 60s and increase(a[1440s]) and b:rate5m'
    )


def test_no_window_becomes_shorter_than_two_scrapes() -> None:
    assert Pace(1.0, 3600).hurried("rate(a[5m])") == "rate(a[2s])"


def test_without_hurry_everything_stays_as_it_is() -> None:
    assert AS_SHIPPED.hurried("rate(a[5m])") == "rate(a[5m])"


def test_only_what_must_is_changed_of_the_shipped_configuration(tmp_path: Path) -> None:
    path, changed = configured(tmp_path, "127.0.0.1:1", None, AS_SHIPPED)
    shipped, ours = (YAML(typ="safe").load(file) for file in (SHIPPED / "prometheus.yml", path))
    assert ours["scrape_configs"][0].pop("static_configs") == [{"targets": ["127.0.0.1:1"]}]
    del shipped["scrape_configs"][0]["static_configs"]
    assert ours == shipped
    assert changed == ("target 127.0.0.1:1",)
    for rules in (SHIPPED / "rules").glob("*.yml"):
        assert (path.parent / "rules" / rules.name).read_text() == rules.read_text()


def test_a_hurried_configuration_says_what_it_changes(tmp_path: Path) -> None:
    path, changed = configured(tmp_path, "127.0.0.1:1", "sk-secret", HURRIED)
    ours = YAML(typ="safe").load(path)
    assert ours["global"] == {"scrape_interval": "1s", "evaluation_interval": "1s"}
    key_file = Path(ours["scrape_configs"][0]["authorization"]["credentials_file"])
    assert key_file.read_text() == "sk-secret"
    assert len(changed) == 4
    assert "sk-secret" not in str(changed) + path.read_text()


def test_an_alert_looks_at_ever_smaller_parts_of_itself() -> None:
    parts = list(looked_at("sum(rate(a[5m])) / sum(b) > 0.1 and c > 2"))
    assert parts == [
        "sum(rate(a{}[5m])) / sum(b{}) > 0.1",
        "sum(rate(a{}[5m])) / sum(b{})",
        "sum(rate(a{}[5m]))",
        "rate(a{}[5m])",
        "a{}",
    ]


def test_every_panel_can_be_asked_once_its_variables_are_replaced() -> None:
    variables = Shown(0.0, 60.0, HURRIED).variables()
    assert all("$" not in substituted(query.expression, variables) for query in panel_queries())
    assert (variables["__rate_interval"], variables["__range"]) == ("4s", "60s")


@pytest.mark.parametrize(("joules", "ratio"), [((10.0, 10.0), 0.0), ((10.0, 9.0), 0.1), ((0.0, 0.0), 1.0)])
def test_books_are_as_far_apart_as_their_extremes(joules: tuple[float, float], ratio: float) -> None:
    found = Agreement("all", {str(place): value for place, value in enumerate(joules)})
    assert found.worst_ratio == pytest.approx(ratio)
