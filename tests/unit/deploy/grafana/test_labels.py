"""Which metrics and labels an expression names, and what is found wrong with it."""

import pytest

from deploy.grafana.labels import QueryError, labels_of

SCRAPED = frozenset({"job", "instance"})
KNOWN = {
    "energy_total": SCRAPED | {"worker", "model", "account"},
    "watts": SCRAPED | {"worker"},
    "seconds_bucket": SCRAPED | {"model", "le"},
    "build_info": SCRAPED | {"version"},
    "wattline:power:sum": frozenset[str](),
}


@pytest.mark.parametrize(
    ("expression", "labels"),
    [
        ("watts", SCRAPED | {"worker"}),
        ("3 * (watts > 2)", SCRAPED | {"worker"}),
        ("-watts", SCRAPED | {"worker"}),
        ("sum(watts)", set()),
        ("vector(1)", set()),
        ("absent(watts)", set()),
        ("wattline:power:sum", set()),
        ("sum by (model) (rate(energy_total[5m]))", {"model"}),
        ("sum without (account) (energy_total)", SCRAPED | {"worker", "model"}),
        ("max_over_time(sum by (worker) (watts)[1h:1m])", {"worker"}),
        ("histogram_quantile(0.9, sum by (le, model) (rate(seconds_bucket[5m])))", {"model"}),
        ("watts * on (job, instance) group_left (version) build_info", SCRAPED | {"worker", "version"}),
        ("build_info * on (job, instance) group_right () watts", SCRAPED | {"worker"}),
        ("watts and on (worker) energy_total", SCRAPED | {"worker"}),
        ("watts or on () vector(0)", SCRAPED | {"worker"}),
        ("energy_total / ignoring (account, model) watts", SCRAPED | {"worker"}),
        ("sum by (model) (energy_total) / on (model) sum by (model) (energy_total)", {"model"}),
        ('label_replace(watts, "name", "$1", "worker", "(.*)")', SCRAPED | {"worker", "name"}),
    ],
)
def test_labels_that_series_may_have(expression: str, labels: set[str]) -> None:
    assert labels_of(expression, KNOWN) == labels


def test_topk_keeps_the_labels_of_what_it_chooses_from() -> None:
    assert labels_of("topk(3, sum by (worker) (watts))", KNOWN) == {"worker"}


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("sum(", "no PromQL"),
        ("rate(energy[5m])", "there is no metric energy"),
        ("energy_total / watts_total", "there is no metric watts_total"),
        ('watts{model="a"}', "watts has no label model"),
        ("sum by (tenant) (energy_total)", "has no label tenant"),
        ("sum by (model) (sum by (worker) (energy_total))", "has no label model"),
        ("sum without (tenant) (energy_total)", "has no label tenant"),
        ("watts and on (model) energy_total", "has no label model"),
        ("histogram_quantile(0.9, sum by (model) (rate(seconds_bucket[5m])))", "has no label le"),
        ('{job="wattline"}', "without the name of a metric"),
        ("sum(rate(wattline:power:sum[5m])) + nothing", "there is no metric nothing"),
    ],
)
def test_what_can_only_come_back_empty_is_told(expression: str, fault: str) -> None:
    with pytest.raises(QueryError, match=fault):
        labels_of(expression, KNOWN)
