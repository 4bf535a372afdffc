import re
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from scheduler.targets import LatencyTargets
from server import metric_catalogue as catalogue
from server import metrics_page
from server.cost import Cost
from server.exchange_record import ExchangeRecord
from server.exposition import Exposition
from server.metrics import ServerMetrics
from server.tenant_labels import TenantLabels

COST = Cost(energy_microjoules=6_000_000, prompt_tokens=10, output_tokens=3)


def record(**fields: Any) -> ExchangeRecord:
    usual: dict[str, Any] = {
        "tenant": "acme",
        "model": "m",
        "tier": "default",
        "outcome": "completed",
        "is_stream": True,
    }
    times = {"first_byte_seconds": 0.5, "total_seconds": 0.6}
    return ExchangeRecord("r", "/v1/completions", **(usual | times | {"cost": COST} | fields))


def samples(metrics: ServerMetrics, name: str) -> dict[tuple[str, ...], float]:
    """Values by the labels' values, in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render([]).decode())
        for sample in family.samples
        if sample.name == name
    }


def test_a_request_is_counted_for_its_model_and_for_whoever_asked() -> None:
    metrics = ServerMetrics()
    metrics.count(record(carbon_g_co2eq=0.25))
    metrics.count(record(tenant="zed", tier="flex", outcome="aborted", cost=Cost()))
    assert samples(metrics, "wattline_tenant_requests_total") == {
        ("m", "acme", "default"): 1,
        ("m", "zed", "flex"): 1,
    }
    assert samples(metrics, "wattline_tenant_tokens_total") == {
        ("prompt", "m", "acme"): 10,
        ("output", "m", "acme"): 3,
    }
    assert samples(metrics, "wattline_tenant_energy_joules_total") == {("m", "acme", "default"): 6}
    assert samples(metrics, "wattline_carbon_g_co2eq_total") == {("m",): 0.25}


def test_carbon_that_is_not_known_is_not_there() -> None:
    metrics = ServerMetrics()
    metrics.count(record())
    assert samples(metrics, "wattline_carbon_g_co2eq_total") == {}


def test_both_sides_of_a_target_are_there_from_the_first_request_on() -> None:
    metrics = ServerMetrics(LatencyTargets(ttft_seconds=1.0, tpot_seconds=0.04))
    metrics.count(record())  # two tokens in a tenth of a second
    assert samples(metrics, "wattline_slo_requests_total") == {
        ("true", "m", "ttft"): 1,
        ("false", "m", "ttft"): 0,
        ("true", "m", "tpot"): 0,
        ("false", "m", "tpot"): 1,
    }


def test_tenants_beyond_the_first_so_many_share_a_label() -> None:
    metrics = ServerMetrics(tenants=TenantLabels(2))
    for tenant in ("a", "b", "c", "d", "a"):
        metrics.count(record(tenant=tenant))
    assert samples(metrics, "wattline_tenant_requests_total") == {
        ("m", "a", "default"): 2,
        ("m", "b", "default"): 1,
        ("m", "other", "default"): 2,
    }
    assert samples(metrics, "wattline_tenant_energy_joules_total")["m", "other", "default"] == 12


def test_a_thousand_tenants_have_no_more_series_than_the_page_says() -> None:
    metrics = ServerMetrics()
    for number in range(1000):
        metrics.count(record(tenant=f"tenant-{number}"))
    assert len(samples(metrics, "wattline_tenant_requests_total")) == catalogue.MAX_TENANTS + 1


def test_nothing_tells_when_a_series_was_created() -> None:
    metrics = ServerMetrics()
    metrics.count(record())
    assert b"_created" not in metrics.render([])


def test_a_page_is_what_the_library_would_write() -> None:
    metrics = ServerMetrics()
    metrics.count(record(tenant='quo"te', model="back\\slash\nline"))
    odd = Gauge("odd", "A \\ and a\nline.", ("b", "a"), registry=metrics.registry)
    odd.labels("2", "1").set(float("nan"))
    odd.labels("é", "").set(1e21)
    Gauge("plain", "No label.", registry=metrics.registry).set(-0.5)
    first = metrics.render([])
    assert first == generate_latest(metrics.registry)
    odd.labels("2", "1").set(7)
    assert metrics.render([]) == generate_latest(metrics.registry)
    assert Exposition(CollectorRegistry()).render() == b""


def test_every_family_is_named_once_and_in_base_units() -> None:
    names = [family.name for family in catalogue.FAMILIES]
    assert len(names) == len(set(names))
    for name in names:
        assert re.fullmatch(r"wattline_[a-z0-9_]+", name)
        assert not name.endswith("_total")
        assert not re.search(r"_(ms|milliseconds|percent|kwh|mj)(_|$)", name)


def test_the_names_for_queries_have_their_suffixes_and_labels() -> None:
    names = metrics_page.metric_names()
    assert names["wattline_worker_losses_total"] == ("worker", "cause")
    assert names["wattline_request_seconds_bucket"] == ("model", "le")
    assert names["wattline_request_seconds_sum"] == ("model",)
    assert names["wattline_power_watts"] == ("worker", "component")
    assert "wattline_requests" not in names


def test_the_page_of_all_metrics_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert metrics_page.main(["--check"]) == 0, capsys.readouterr().err
    for family in catalogue.FAMILIES:
        assert f"`{family.shown_name}`" in metrics_page.page()
