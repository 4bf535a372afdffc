"""*Scheduler and SLOs*: what waits, what runs where and why, and whether latencies keep to their targets."""

from typing import Final

from grafana_foundation_sdk.builders import timeseries

from deploy.grafana import variables
from deploy.grafana.layout import Board, Row
from deploy.grafana.panels import GREEN, ORANGE, RED, Label, number, over_time, rows
from deploy.grafana.promql import (
    MODEL,
    WORKER,
    Query,
    increase,
    of_models,
    or_zero,
    quantiles,
    rate,
    ratio,
    recent,
    series,
    total,
)

_MET: Final = ("wattline_slo_requests_total", MODEL)
_BY_WORKER: Final = "{{instance}} {{worker}}"
_GOOD: Final = ((None, RED), (0.95, ORANGE), (0.99, GREEN))


def board() -> Board:
    """The dashboard."""
    return Board(
        "wattline-scheduler-slos",
        "Wattline: scheduler and SLOs",
        "Queues, placements, batches, workers' lives, latencies against their targets, and the ledger.",
        (variables.datasource(), variables.job(), variables.model()),
        (_at_a_glance(), _latencies(), _scheduling(), _batches(), _workers(), _ledger()),
    )


def _at_a_glance() -> Row:
    return Row(
        "At a glance",
        (
            number(
                "Waiting",
                "Requests that wait for a worker now, over all tiers.",
                "short",
                Query(total(series("wattline_queue_requests"))),
            ),
            number(
                "Running",
                "Sequences that engines work on now.",
                "short",
                Query(total(of_models(series("wattline_worker_running_requests")))),
            ),
            number(
                "Workers ready",
                "Workers that can serve now. Parked ones are not among them.",
                "short",
                Query(total(of_models(series("wattline_worker_state", 'state="ready"')))),
                steps=((None, RED), (1, GREEN)),
            ),
            number(
                "TTFT within target",
                "The share of streams of the range shown whose first token came within its target.",
                "percentunit",
                Query(_attained("ttft")),
                steps=_GOOD,
            ),
            number(
                "TPOT within target",
                "The share of streams of the range shown whose tokens came within their target.",
                "percentunit",
                Query(_attained("tpot")),
                steps=_GOOD,
            ),
            number(
                "Ledger written",
                "Whether every server's ledger takes its rows.",
                "bool_yes_no",
                Query(f"min({series('wattline_ledger_available')})"),
                steps=((None, RED), (1, GREEN)),
            ),
            rows(
                "Servers",
                "Versions and policies that run, and the latency targets in force.",
                (Label("instance", "Server"), Label("version", "Version"), Label("policy", "Policy")),
                Query(f"max by (instance, version, policy) ({series('wattline_build_info')})", "Runs", "bool_yes_no"),
                Query(f"max by (instance) ({series('wattline_slo_ttft_seconds')})", "TTFT target", "s"),
                Query(f"max by (instance) ({series('wattline_slo_tpot_seconds')})", "TPOT target", "s"),
                Query(f"max by (instance) ({series('scrape_duration_seconds')})", "Scrape takes", "s"),
            ),
        ),
    )


def _latencies() -> Row:
    return Row(
        "Latencies against their targets",
        (
            _against_target(
                "Time to first token",
                "From arrival to the first byte of a stream, with the target in force.",
                "wattline_time_to_first_token_seconds",
                "wattline_slo_ttft_seconds",
            ),
            _against_target(
                "Time per output token",
                "Time after a stream's first byte over its output tokens after the first, with the target in force.",
                "wattline_time_per_output_token_seconds",
                "wattline_slo_tpot_seconds",
            ),
            over_time(
                "Within target by model",
                "The share of streams within their target: first token (ttft), and tokens after it (tpot).",
                "percentunit",
                Query(ratio(rate(*_MET, 'met="true"'), rate(*_MET), "model", "target"), "{{model}} {{target}}"),
                span=8,
            ).max(1),
            over_time(
                "Within target, as the alerts see it",
                "The same over an hour and over six: an error budget that burns fast, and one that burns slowly.",
                "percentunit",
                *(
                    Query(
                        series(f"wattline:slo_attainment_ratio:rate{window}", MODEL),
                        f"{{{{model}}}} {{{{target}}}} {window}",
                    )
                    for window in ("1h", "6h")
                ),
                span=8,
            ).max(1),
            over_time(
                "Time in the queue",
                "From arrival to placement on a worker.",
                "s",
                *quantiles("wattline_queue_seconds", MODEL),
                span=8,
            ),
        ),
    )


def _scheduling() -> Row:
    return Row(
        "Queues and placements",
        (
            over_time(
                "Waiting by tier",
                "Requests that wait for a worker. Flex requests wait on purpose.",
                "short",
                Query(total(series("wattline_queue_requests"), "tier"), "{{tier}}"),
                is_stacked=True,
                span=8,
            ),
            over_time(
                "Placements by reason",
                "Why requests went where they went, a second.",
                "reqps",
                Query(total(rate("wattline_dispatches_total"), "reason"), "{{reason}}"),
                is_stacked=True,
                span=8,
            ),
            over_time(
                "Placements by worker",
                "Requests a second that each worker was given.",
                "reqps",
                Query(total(of_models(rate("wattline_dispatches_total")), "instance", "worker"), _BY_WORKER),
                is_stacked=True,
                span=8,
            ),
        ),
    )


def _batches() -> Row:
    steps, busy = (of_models(rate(f"wattline_worker_{what}_total")) for what in ("steps", "step_seconds"))
    decoded = of_models(rate("wattline_worker_decode_tokens_total"))
    prefilled = of_models(rate("wattline_worker_prefill_tokens_total"))
    return Row(
        "Batches",
        (
            over_time(
                "Sequences running",
                "Sequences in each engine's batch now.",
                "short",
                Query(of_models(series("wattline_worker_running_requests")), _BY_WORKER),
                span=8,
            ),
            over_time(
                "Mean batch of a step",
                "Tokens decoded in each engine step: how full batches are, and so what a token costs.",
                "short",
                Query(ratio(decoded, steps, *WORKER), _BY_WORKER),
                span=8,
            ),
            over_time(
                "Mean time of a step",
                "How long an engine step takes, prompts and decoding together.",
                "s",
                Query(ratio(busy, steps, *WORKER), _BY_WORKER),
                span=8,
            ),
            over_time(
                "Tokens by phase",
                "Prompt tokens computed and tokens decoded, a second, over the chosen workers.",
                "short",
                Query(total(prefilled), "prefill"),
                Query(total(decoded), "decode"),
                span=8,
            ),
            over_time(
                "Waiting inside engines",
                "Sequences that were placed and that the engine has not begun.",
                "short",
                Query(of_models(series("wattline_worker_waiting_requests")), _BY_WORKER),
                span=8,
            ),
            over_time(
                "KV cache in use",
                "The share of each engine's KV cache that holds sequences.",
                "percentunit",
                Query(of_models(series("wattline_worker_kv_cache_usage_ratio")), _BY_WORKER),
                span=8,
            ).max(1),
        ),
    )


def _workers() -> Row:
    states = of_models(series("wattline_worker_state"))
    return Row(
        "Workers",
        (
            over_time(
                "Workers by state",
                "Ready ones serve; starting and parking ones draw power and do not; parked ones have no process, and "
                "what bare hardware draws nobody meters.",
                "short",
                Query(total(states, "state"), "{{state}}"),
                is_stacked=True,
            ),
            over_time(
                "Parked and started",
                "What the scheduler had done with workers, over the rate interval.",
                "short",
                Query(
                    or_zero(total(recent("wattline_worker_commands_total"), "command")),
                    "{{command}}",
                ),
            ),
            over_time(
                "Workers lost",
                "How workers were lost, over the rate interval: hung, died and so on.",
                "short",
                Query(
                    or_zero(total(recent("wattline_worker_losses_total"), "instance", "worker", "cause")),
                    "{{instance}} {{worker}} {{cause}}",
                ),
            ),
            over_time(
                "Workers restarted",
                "Starts after the first, over the rate interval. Starting a parked worker is not one.",
                "short",
                Query(total(recent("wattline_worker_restarts_total"), "instance", "worker"), _BY_WORKER),
            ),
        ),
    )


def _ledger() -> Row:
    return Row(
        "Ledger and scraping",
        (
            over_time(
                "Rows written",
                "Rows a second that became durable.",
                "short",
                Query(total(rate("wattline_ledger_written_rows_total"), "instance"), "{{instance}}"),
                span=8,
            ),
            over_time(
                "Rows waiting",
                "Rows that are not written yet. They grow while the database does not answer.",
                "short",
                Query(total(series("wattline_ledger_pending_rows"), "instance"), "{{instance}}"),
                span=8,
            ),
            over_time(
                "Rows lost and writes failed",
                "Over the rate interval. A lost row is energy that no report will show.",
                "short",
                Query(total(recent("wattline_ledger_lost_rows_total")), "rows lost"),
                Query(total(recent("wattline_ledger_failed_writes_total")), "writes failed"),
                span=8,
            ),
            over_time(
                "Time of a scrape",
                "How long Prometheus waits for the page of metrics.",
                "s",
                Query(series("scrape_duration_seconds"), "{{instance}}"),
            ),
            over_time(
                "Servers that answer Prometheus",
                "1 while the last scrape succeeded.",
                "short",
                Query(series("up"), "{{instance}}"),
            ).max(1),
        ),
    )


def _attained(target: str) -> str:
    """The share of the range's streams that met a target."""
    return ratio(*(increase(*_MET, f'target="{target}"', *met) for met in (('met="true"',), ())))


def _against_target(title: str, description: str, histogram: str, target: str) -> timeseries.Panel:
    return over_time(
        title,
        description,
        "s",
        *quantiles(histogram, MODEL),
        Query(f"max({series(target)})", "target"),
    )
