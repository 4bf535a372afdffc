"""*Requests and tenants*: what requests cost, whose they are, and what is left of their budgets."""

from typing import Final

from deploy.grafana import variables
from deploy.grafana.layout import Board, Row
from deploy.grafana.panels import GREEN, ORANGE, RED, Label, bars, heat, number, over_time, rows
from deploy.grafana.promql import (
    MODEL,
    TENANT,
    Query,
    increase,
    or_zero,
    quantile,
    quantiles,
    rate,
    ratio,
    recent,
    series,
    total,
)

_JOULES: Final = "wattline_request_energy_joules"
_TOKEN_COST: Final = "wattline_request_joules_per_output_token"  # noqa: S105  # no secret
_TENANT_ENERGY: Final = ("wattline_tenant_energy_joules_total", MODEL, TENANT)
_TENANT_REQUESTS: Final = ("wattline_tenant_requests_total", MODEL, TENANT)
_TENANT_TOKENS: Final = ("wattline_tenant_tokens_total", MODEL, TENANT)
_REQUESTS: Final = ("wattline_requests_total", MODEL)
_BUDGET_LEFT: Final = ("wattline_tenant_energy_budget_remaining_joules", TENANT)
_BUDGET: Final = ("wattline_tenant_energy_budget_joules", TENANT)


def board() -> Board:
    """The dashboard."""
    return Board(
        "wattline-requests-tenants",
        "Wattline: requests and tenants",
        "Joules per request, per tenant and per tier; tokens, budgets, refusals and outcomes.",
        (variables.datasource(), variables.job(), variables.model(), variables.tenant()),
        (_at_a_glance(), _cost(), _tenants(), _budgets(), _tiers(), _outcomes()),
    )


def _at_a_glance() -> Row:
    requests = increase(*_REQUESTS)
    completed = increase(*_REQUESTS, 'outcome="completed"')
    cost = total(increase(f"{_JOULES}_bucket", MODEL), "le")
    return Row(
        "At a glance, over the range shown",
        (
            number(
                "Requests", "Requests that have ended, however they did.", "short", Query(total(requests)), decimals=0
            ),
            number(
                "Completed",
                "The share of requests that were answered whole.",
                "percentunit",
                Query(ratio(completed, requests)),
                steps=((None, RED), (0.95, ORANGE), (0.99, GREEN)),
            ),
            number(
                "Energy of requests", "Aborted requests included.", "joule", Query(total(increase(*_TENANT_ENERGY)))
            ),
            number(
                "Median energy of a request",
                "Half of the answered requests cost less.",
                "joule",
                Query(f"histogram_quantile(0.5, {cost})"),
            ),
            number(
                "Output tokens",
                "Tokens made in the range shown.",
                "short",
                Query(total(increase("wattline_tokens_total", MODEL, 'kind="output"'))),
            ),
            number(
                "Requests of unknown energy",
                "Requests ended whose energy nobody has told. Budgets count them as nothing.",
                "short",
                Query(total(series("wattline_tenant_unknown_energy_requests", TENANT))),
                steps=((None, GREEN), (1, ORANGE)),
            ),
        ),
    )


def _cost() -> Row:
    return Row(
        "What a request costs",
        (
            over_time(
                "Joules per request",
                "Quantiles of the answered requests' energy, from the histogram's buckets.",
                "joule",
                *quantiles(_JOULES, MODEL),
            ),
            heat(
                "Joules per request, spread",
                "How many requests cost how much, over time.",
                "joule",
                total(recent(f"{_JOULES}_bucket", MODEL), "le"),
            ),
            over_time(
                "Joules per output token of requests",
                "Quantiles of each request's energy over its output tokens. Idling and loading are not in it.",
                "joule",
                *quantiles(_TOKEN_COST, MODEL),
            ),
            over_time(
                "Median joules per request by model",
                "Half of a model's answered requests cost less.",
                "joule",
                Query(quantile(0.5, _JOULES, MODEL, by=("model",)), "{{model}}"),
            ),
        ),
    )


def _tenants() -> Row:
    energy, requests = increase(*_TENANT_ENERGY), increase(*_TENANT_REQUESTS)
    prompt, output = (increase(*_TENANT_TOKENS, f'kind="{kind}"') for kind in ("prompt", "output"))
    return Row(
        "Tenants",
        (
            rows(
                "Tenants in the range shown",
                "What each tenant asked for, what it got and what that cost. Beyond the server's cap on tenants they "
                "share the line `other`.",
                (Label("tenant", "Tenant"),),
                Query(total(energy, "tenant"), "Energy", "joule"),
                Query(total(requests, "tenant"), "Requests", "short"),
                Query(total(prompt, "tenant"), "Prompt tokens", "short"),
                Query(total(output, "tenant"), "Output tokens", "short"),
                Query(ratio(energy, requests, "tenant"), "Energy per request", "joule"),
                Query(ratio(energy, output, "tenant"), "Energy per output token", "joule"),
                Query(total(series("wattline_tenant_running_requests", TENANT), "tenant"), "Running", "short"),
                Query(total(increase("wattline_tenant_refusals_total", TENANT), "tenant"), "Refused", "short"),
            ),
            over_time(
                "Energy by tenant",
                "Joules a second charged to each tenant, aborted requests included.",
                "watt",
                Query(total(rate(*_TENANT_ENERGY), "tenant"), "{{tenant}}"),
                is_stacked=True,
            ),
            over_time(
                "Requests by tenant",
                "Requests a second that have ended.",
                "reqps",
                Query(total(rate(*_TENANT_REQUESTS), "tenant"), "{{tenant}}"),
                is_stacked=True,
            ),
        ),
    )


def _budgets() -> Row:
    left, limit = (f"max by (tenant, period) ({series(*family)})" for family in (_BUDGET_LEFT, _BUDGET))
    return Row(
        "Energy budgets",
        (
            bars(
                "Budget left",
                "What is left of each tenant's budget of the day and of the month, as a share of it.",
                "percentunit",
                Query(
                    f"min by (tenant, period) ({series(*_BUDGET_LEFT)} / {series(*_BUDGET)})", "{{tenant}}, {{period}}"
                ),
            ),
            rows(
                "Budgets in joules",
                "Budgets, and what is left of them. Days and months begin at midnight UTC.",
                (Label("tenant", "Tenant"), Label("period", "Period")),
                Query(limit, "Budget", "joule"),
                Query(left, "Left", "joule"),
                span=12,
            ),
        ),
    )


def _tiers() -> Row:
    energy, requests = rate(*_TENANT_ENERGY), rate(*_TENANT_REQUESTS)
    return Row(
        "Tiers and tokens",
        (
            over_time(
                "Energy by tier",
                "Joules a second, by the tier that requests were served in.",
                "watt",
                Query(total(energy, "tier"), "{{tier}}"),
                is_stacked=True,
                span=8,
            ),
            over_time(
                "Mean joules per request by tier",
                "Requests that may wait join larger batches, and should cost less.",
                "joule",
                Query(ratio(energy, requests, "tier"), "{{tier}}"),
                span=8,
            ),
            over_time(
                "Tokens",
                "Tokens a second read and made, by model.",
                "short",
                Query(total(rate("wattline_tokens_total", MODEL), "model", "kind"), "{{model}} {{kind}}"),
                span=8,
            ),
        ),
    )


def _outcomes() -> Row:
    refusals = total(rate("wattline_tenant_refusals_total", TENANT), "tenant", "reason")
    return Row(
        "Outcomes and refusals",
        (
            over_time(
                "Requests by outcome",
                "Completed, failed, refused before they reached an engine, or aborted by their callers.",
                "reqps",
                Query(total(rate(*_REQUESTS), "outcome"), "{{outcome}}"),
                is_stacked=True,
                span=8,
            ),
            over_time(
                "Requests by endpoint",
                "Requests a second that have ended, by route.",
                "reqps",
                Query(total(rate(*_REQUESTS), "endpoint"), "{{endpoint}}"),
                is_stacked=True,
                span=8,
            ),
            over_time(
                "From arrival to the last byte",
                "Quantiles of the whole time of a request.",
                "s",
                *quantiles("wattline_request_seconds", MODEL),
                span=8,
            ),
            over_time(
                "Refused for a tenant's limits",
                "Refusals a second by tenant and by the limit that was reached.",
                "reqps",
                Query(or_zero(f"{refusals} > 0"), "{{tenant}} {{reason}}"),
            ),
            over_time(
                "Refused by the scheduler, and for want of a key",
                "Refusals a second because queues were full or waits too long, and of callers without a valid key.",
                "reqps",
                Query(or_zero(total(rate("wattline_refusals_total"), "cause")), "{{cause}}"),
                Query(total(rate("wattline_invalid_keys_total")), "no valid key"),
            ),
        ),
    )
