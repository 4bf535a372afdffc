"""Every Prometheus family of the front end, declared here and nowhere else; docs/metrics.md is written from this.

What a label may hold is bounded: workers by the configuration, models by what the workers serve, tenants by a cap, the
rest by closed sets. Nothing that a caller makes up becomes a label.
"""

from collections.abc import Iterable
from typing import Final

from metering.fault import CounterFault
from metering.ledger import ACCOUNTS
from scheduler.commands import RejectCause
from scheduler.tiers import TIERS
from server.access.energy_budget import Period
from server.access.tenant_account import Refusal
from server.engine_routes import MODEL_ROUTES
from server.metric_family import Family, Label
from workers.loss import WorkerLoss
from workers.supervisor import WorkerState

MAX_TENANTS: Final = 100
OTHER_TENANTS: Final = "other"
OUTCOMES: Final = ("completed", "failed", "refused", "aborted")

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_TOKEN_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2)
_JOULES: Final = (0.01, 0.1, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)
_JOULES_PER_TOKEN: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50)


def _closed(name: str, values: Iterable[str]) -> Label:
    values = list(values)
    return Label(name, len(values), ", ".join(f"`{value}`" for value in values))


# -- labels ------------------------------------------------------------------------------------------------------

_WORKER: Final = Label("worker", "W", "the configured workers")
_MODEL: Final = Label(
    "model",
    "M",
    "the names that the workers serve; a request for any other counts under `unknown`. Requests count under the name "
    "they asked for, and what a worker tells of itself under the first of its names: aliases and adapters have tokens, "
    "and no worker's energy",
)
_COMPONENT: Final = Label("component", "C", "what a worker meters: `gpu`, `cpu`, `dram`")
_TENANT: Final = Label(
    "tenant",
    MAX_TENANTS + 1,
    f"the first {MAX_TENANTS} tenants that asked for something; those after them share `{OTHER_TENANTS}`",
)
_COUNTER: Final = Label("counter", "D", "a worker's hardware counters, as component:device")
_SOURCE: Final = Label("source", 1, "one at a time: what a worker measures by, or who tells of the grid")
_ENDPOINT: Final = Label("endpoint", len(MODEL_ROUTES) + 1, "the routes of vLLM that take a model, and `other`")
_VERSION: Final = Label("version", 1, "this server's")
_POLICY: Final = Label("policy", 1, "the placement policy in force")
_PLACED: Final = Label("reason", 8, "a few short labels of the placement policy")
_TIER: Final = _closed("tier", TIERS)
_ACCOUNT: Final = _closed("account", ACCOUNTS)
_OUTCOME: Final = _closed("outcome", OUTCOMES)
_TOKENS: Final = _closed("kind", ("prompt", "output"))
_TARGET: Final = _closed("target", ("ttft", "tpot"))
_MET: Final = _closed("met", ("true", "false"))
_STATE: Final = _closed("state", WorkerState)
_COMMAND: Final = _closed("command", ("park", "start"))
_FAULT: Final = _closed("fault", CounterFault)
_REFUSED: Final = _closed("reason", Refusal)
_PERIOD: Final = _closed("period", Period)
_REJECTED: Final = _closed("cause", (cause.value for cause in RejectCause))
_LOSS: Final = _closed("cause", WorkerLoss)

# -- energy ------------------------------------------------------------------------------------------------------

ENERGY: Final = Family(
    "wattline_energy_joules",
    "counter",
    "Energy by account, in joules; with what is in flight they add up to the hardware counters.",
    (_WORKER, _MODEL, _COMPONENT, _ACCOUNT),
    series=("W", "C", len(ACCOUNTS)),
    absent="a worker that has not reported, or measures nothing",
)
IN_FLIGHT_ENERGY: Final = Family(
    "wattline_energy_in_flight_joules",
    "gauge",
    "Energy of requests that have not ended, so far.",
    (_WORKER, _MODEL, _COMPONENT),
    series=("W", "C"),
    absent="a worker that is away",
)
COUNTER_FAULTS: Final = Family(
    "wattline_energy_counter_faults",
    "counter",
    "Faults of the workers' hardware counters, each of which began a new epoch.",
    (_WORKER, _COUNTER, _FAULT),
)
POWER: Final = Family(
    "wattline_power_watts", "gauge", "Present power.", (_WORKER, _COMPONENT), absent="a worker that is away"
)
MEASURED: Final = Family(
    "wattline_worker_measured",
    "gauge",
    "1 while the worker's energy is measured by hardware, 0 while it is estimated or nobody tells it.",
    (_WORKER, _SOURCE),
)
TENANT_ENERGY: Final = Family(
    "wattline_tenant_energy_joules",
    "counter",
    "Energy of requests by who asked, in joules; aborted requests included.",
    (_TENANT, _MODEL, _TIER),
)
REQUEST_ENERGY: Final = Family(
    "wattline_request_energy_joules", "histogram", "Energy of one request.", (_MODEL,), _JOULES
)
TOKEN_ENERGY: Final = Family(
    "wattline_request_joules_per_output_token",
    "histogram",
    "Energy of one request over its output tokens.",
    (_MODEL,),
    _JOULES_PER_TOKEN,
)
ROUND_ROBIN_ENERGY: Final = Family(
    "wattline_round_robin_energy_joules",
    "counter",
    "What round-robin is estimated to have spent on the same requests; compare with prefill, decode and idle.",
    (_MODEL,),
    absent="while nothing is learned of a model's workers",
)
CARBON: Final = Family(
    "wattline_carbon_g_co2eq",
    "counter",
    "Grams of CO2 equivalent of the requests of which that is known.",
    (_MODEL,),
    absent="no source of carbon intensity is configured",
)
GRID_CARBON: Final = Family(
    "wattline_grid_carbon_intensity_gco2perkwh",
    "gauge",
    "The grid's present carbon intensity, in grams of CO2 equivalent a kilowatt-hour.",
    (_SOURCE,),
    absent="while it is not known, or too old",
)
GRID_CARBON_AGE: Final = Family(
    "wattline_grid_carbon_age_seconds",
    "gauge",
    "The age of the grid's latest carbon intensity.",
    absent="while there is none, or it is of no instant",
)

# -- requests ----------------------------------------------------------------------------------------------------

REQUESTS: Final = Family(
    "wattline_requests",
    "counter",
    "Requests answered, by outcome: completed, failed, refused, aborted.",
    (_ENDPOINT, _MODEL, _TIER, _OUTCOME),
)
TOKENS: Final = Family("wattline_tokens", "counter", "Tokens, by kind: prompt, output.", (_MODEL, _TOKENS))
TENANT_REQUESTS: Final = Family(
    "wattline_tenant_requests", "counter", "Requests answered, by who asked.", (_TENANT, _MODEL, _TIER)
)
TENANT_TOKENS: Final = Family(
    "wattline_tenant_tokens", "counter", "Tokens, by who asked and kind.", (_TENANT, _MODEL, _TOKENS)
)
REQUEST_SECONDS: Final = Family(
    "wattline_request_seconds", "histogram", "From arrival to the last byte.", (_MODEL,), _SECONDS
)
QUEUE_SECONDS: Final = Family("wattline_queue_seconds", "histogram", "From arrival to placement.", (_MODEL,), _SECONDS)
FIRST_TOKEN_SECONDS: Final = Family(
    "wattline_time_to_first_token_seconds",
    "histogram",
    "From arrival to the first byte of a stream.",
    (_MODEL,),
    _SECONDS,
)
PER_TOKEN_SECONDS: Final = Family(
    "wattline_time_per_output_token_seconds",
    "histogram",
    "Time after the first byte of a stream over its output tokens after the first.",
    (_MODEL,),
    _TOKEN_SECONDS,
)
SLO_REQUESTS: Final = Family(
    "wattline_slo_requests",
    "counter",
    "Streams of the tiers priority and default, by whether they kept to a latency target.",
    (_MODEL, _TARGET, _MET),
)
SLO_TTFT: Final = Family("wattline_slo_ttft_seconds", "gauge", "The target in force for the time to first token.")
SLO_TPOT: Final = Family("wattline_slo_tpot_seconds", "gauge", "The target in force for the time per output token.")

# -- scheduler and workers ---------------------------------------------------------------------------------------

BUILD: Final = Family("wattline_build_info", "gauge", "Always 1; what runs is in the labels.", (_VERSION, _POLICY))
QUEUE_REQUESTS: Final = Family("wattline_queue_requests", "gauge", "Requests waiting for a worker.", (_TIER,))
REFUSALS: Final = Family("wattline_refusals", "counter", "Requests that the scheduler refused.", (_REJECTED,))
DISPATCHES: Final = Family("wattline_dispatches", "counter", "Requests sent to a worker.", (_WORKER, _PLACED))
WORKER_COMMANDS: Final = Family(
    "wattline_worker_commands",
    "counter",
    "What the scheduler had done with a worker: park, start.",
    (_WORKER, _COMMAND),
)
RUNNING: Final = Family("wattline_worker_running_requests", "gauge", "Sequences running in the engine.", (_WORKER,))
WAITING: Final = Family(
    "wattline_worker_waiting_requests", "gauge", "Sequences that wait inside the engine.", (_WORKER,)
)
STATE: Final = Family(
    "wattline_worker_state", "gauge", "1 for the state the worker is in, 0 for the others.", (_WORKER, _STATE)
)
RESTARTS: Final = Family("wattline_worker_restarts", "counter", "Times a worker was started again.", (_WORKER,))
LOSSES: Final = Family("wattline_worker_losses", "counter", "Times a worker was lost, by how.", (_WORKER, _LOSS))
_UNTOLD: Final = "a worker that does not tell of its steps"
STEPS: Final = Family("wattline_worker_steps", "counter", "Forward passes of the engine.", (_WORKER,), absent=_UNTOLD)
STEP_SECONDS: Final = Family(
    "wattline_worker_step_seconds", "counter", "Time in forward passes.", (_WORKER,), absent=_UNTOLD
)
DECODE_TOKENS: Final = Family(
    "wattline_worker_decode_tokens",
    "counter",
    "Tokens decoded: one for each sequence of each pass. Over the steps they are the mean batch.",
    (_WORKER,),
    absent=_UNTOLD,
)
PREFILL_TOKENS: Final = Family(
    "wattline_worker_prefill_tokens", "counter", "Tokens of prompts computed.", (_WORKER,), absent=_UNTOLD
)
KV_CACHE: Final = Family(
    "wattline_worker_kv_cache_usage_ratio",
    "gauge",
    "The share of the engine's KV cache that is taken, 0 to 1.",
    (_WORKER,),
    absent="a worker that is away or does not tell",
)

# -- access and ledger -------------------------------------------------------------------------------------------

TENANT_REFUSALS: Final = Family(
    "wattline_tenant_refusals", "counter", "Requests refused for a tenant's limits.", (_TENANT, _REFUSED)
)
TENANT_RUNNING: Final = Family("wattline_tenant_running_requests", "gauge", "Requests in flight.", (_TENANT,))
TENANT_UNKNOWN: Final = Family(
    "wattline_tenant_unknown_energy_requests",
    "gauge",
    "Requests ended whose energy nobody has told: budgets count them as nothing.",
    (_TENANT,),
)
BUDGET: Final = Family(
    "wattline_tenant_energy_budget_joules",
    "gauge",
    f"A tenant's budget. Under `{OTHER_TENANTS}` stands the one that has the smallest share left.",
    (_TENANT, _PERIOD),
    absent="a tenant without a budget",
)
BUDGET_REMAINING: Final = Family(
    "wattline_tenant_energy_budget_remaining_joules",
    "gauge",
    f"What is left of a tenant's budget. Under `{OTHER_TENANTS}` stands the one that has the smallest share left.",
    (_TENANT, _PERIOD),
    absent="a tenant without a budget",
)
INVALID_KEYS: Final = Family("wattline_invalid_keys", "counter", "Requests refused for want of a valid key.")
LEDGER_AVAILABLE: Final = Family("wattline_ledger_available", "gauge", "1 while rows are written.")
LEDGER_PENDING: Final = Family("wattline_ledger_pending_rows", "gauge", "Rows waiting to be written.")
LEDGER_WRITTEN: Final = Family("wattline_ledger_written_rows", "counter", "Rows written.")
LEDGER_FAILED: Final = Family("wattline_ledger_failed_writes", "counter", "Groups of rows that could not be written.")
LEDGER_LOST: Final = Family("wattline_ledger_lost_rows", "counter", "Rows given up for good.")

FAMILIES: Final = tuple(value for value in list(globals().values()) if isinstance(value, Family))
"""Every family, in the order of this file."""
