"""The composition root: settings in, a running server's parts out. The only place that knows them all."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import FastAPI
from prometheus_client.registry import Collector

from scheduler.core import Scheduler
from scheduler.driver import SchedulerDriver
from scheduler.limits import SchedulerLimits
from scheduler.policy import POLICIES
from scheduler.targets import LatencyTargets
from server.access.database_keys import DatabaseKeyStore
from server.access.gate import Gate
from server.access.key_watch import KeyWatch
from server.access.listening import check_listening, is_loopback
from server.access_metrics import GateCollector, LedgerCollector
from server.app import AppParts, create_app
from server.carbon.account import CarbonAccount
from server.command_sink import CommandSink
from server.context_limit import ContextLimits
from server.decision_log import DecisionLog
from server.engines import PlannedEngine, plan_engines
from server.latency_targets import latency_targets
from server.ledger.ledger import DatabaseLedger, NoLedger, open_ledger
from server.ledger_of_aborts import LedgerOfAborts
from server.live.report import LiveReport, ServerFacts
from server.live.tally import LiveTally
from server.live.token_rates import TokenRates
from server.metrics import ServerMetrics
from server.model_names import ModelNames
from server.proxy import Proxy
from server.reload import ReloadHook
from server.request_books import RequestBooks
from server.roster import Roster
from server.round_robin_account import RoundRobinAccount
from server.scheduler_route import SchedulerReport
from server.served_models import ServedModel
from server.serving import Serving
from server.settings import Settings
from server.state_metrics import GridCollector, RefusalCollector, RoundRobinCollector, SettingsCollector
from server.tenant_reload import TenantReload
from server.tracing import Tracing
from server.version import wattline_version
from server.worker_metrics import WorkerCollector
from workers.client import EngineClient
from workers.engine import EngineReady
from workers.supervisor import Supervisor

logger = logging.getLogger("wattline.server")


@dataclass(frozen=True, slots=True)
class ServerParts:
    """A server that is put together and not yet running."""

    app: FastAPI
    driver: SchedulerDriver
    proxy: Proxy
    roster: Roster
    tally: LiveTally
    supervisors: tuple[Supervisor, ...]
    targets: LatencyTargets
    gate: Gate
    keys: KeyWatch | None
    ledger: DatabaseLedger | NoLedger
    books: RequestBooks
    # Called on SIGHUP with the settings as they are then; `reloadable` names the settings that they take up.
    reload_hooks: tuple[ReloadHook, ...] = ()
    reloadable: frozenset[str] = frozenset()


def compose(
    settings: Settings,
    models: Sequence[ServedModel],
    on_engine_line: Callable[[str, str], None],
    carbon: CarbonAccount | None,
    tracing: Tracing,
) -> ServerParts:
    """Put a server together. Opens the ledger and reads the keys, but starts no engine.

    Raises:
        SettingError: what it should listen on needs keys, and there are none; or a URL is none.
        LedgerOpenError: the ledger's database cannot be used.
    """
    ledger = open_ledger(settings.ledger())
    gate, keys = _open_gate(settings, ledger)
    targets = latency_targets(_device_of_targets(models), settings.slo_ttft_seconds, settings.slo_tpot_seconds)
    limits = _limits(settings, models)
    configured = frozenset(name for model in models for name in model.names)
    core = Scheduler(POLICIES[settings.policy](targets), limits, configured, targets)
    metrics = ServerMetrics(targets)
    tally = LiveTally(time.monotonic, targets)
    books = RequestBooks(ledger, metrics, tally, carbon)
    aborts = LedgerOfAborts(books.charge)
    roster = Roster(aborts.charged, stall_seconds=settings.stall_seconds)
    log = DecisionLog(time.time)
    round_robin = RoundRobinAccount(roster, core.worker_models)
    roster.observers.append(round_robin.look)
    _show(
        metrics,
        WorkerCollector(roster),
        SettingsCollector(settings.policy, targets),
        RefusalCollector(log),
        RoundRobinCollector(round_robin),
        GateCollector(gate, metrics.tenants),
        LedgerCollector(ledger),
        *(() if carbon is None else (GridCollector(carbon, time.time),)),
    )
    supervisors: dict[str, Supervisor] = {}
    driver = SchedulerDriver(core, time.monotonic, CommandSink(supervisors, metrics, log).take)
    context_limits = ContextLimits(lambda served: _ready_clients(roster, served), time.monotonic)
    names = ModelNames(models, roster)
    serving = Serving(driver, roster, aborts, books, tracing)
    proxy = Proxy(serving, context_limits, gate, names, settings.max_body_bytes)
    for planned in plan_engines(models, settings.meter, on_engine_line):
        supervisors[planned.engine.worker_id] = _supervise(planned, driver, roster, settings, configured)
    report = SchedulerReport(settings.policy, targets, limits, core, roster, log)
    facts = ServerFacts(wattline_version(), settings.policy, targets, time.time())
    live = LiveReport(facts, tally, roster, core, gate, TokenRates(time.monotonic), time.time)
    app = create_app(AppParts(roster, core, metrics, proxy, report, gate, ledger, live))
    return ServerParts(
        app,
        driver,
        proxy,
        roster,
        tally,
        tuple(supervisors.values()),
        targets,
        gate,
        keys,
        ledger,
        books,
        reload_hooks=(TenantReload(gate, settings),),
        reloadable=frozenset({"tenants"}),
    )


def _show(metrics: ServerMetrics, *collectors: Collector) -> None:
    """Families that are read from their owners at each scrape."""
    for collector in collectors:
        metrics.registry.register(collector)


def _open_gate(settings: Settings, ledger: DatabaseLedger | NoLedger) -> tuple[Gate, KeyWatch | None]:
    """The gate with the keys that are there now, and what will notice others; None where nothing can keep keys."""
    reader = ledger.reader
    spent_since = _nothing_spent if reader is None else reader.spent_microjoules
    is_local = is_loopback(settings.host) and not settings.insecure
    gate = Gate(settings.tenants, spent_since, time.monotonic, time.time, is_local=is_local)
    keys = None
    if isinstance(ledger, DatabaseLedger):
        keys = KeyWatch(DatabaseKeyStore(ledger.engine), gate.replace_keys)
        keys.start()
    check_listening(settings.host, has_keys=gate.has_keys, is_insecure=settings.insecure)
    return gate, keys


def _nothing_spent(_tenant: str, _since_unix_seconds: float) -> int:
    """Without a ledger budgets begin anew with every start of the server."""
    return 0


def _device_of_targets(models: Sequence[ServedModel]) -> str:
    """Targets that hold for all: a GPU's, unless every model runs on a CPU.

    What an attached server runs on is not known; a GPU is assumed unless the operator says cpu.
    """
    return "cpu" if {model.device for model in models} == {"cpu"} else "cuda"


def _limits(settings: Settings, models: Sequence[ServedModel]) -> SchedulerLimits:
    # A name that nobody knew beforehand keeps no worker awake that its model would let go.
    least = min((model.settings.min_workers for model in models), default=settings.min_workers)
    return SchedulerLimits(
        max_queued_requests=settings.max_queued_requests,
        queue_timeout_seconds=settings.queue_timeout_seconds,
        flex_wait_seconds=settings.flex_wait_seconds,
        min_workers=least,
        power_cap_watts=settings.power_cap_watts,
        min_workers_by_model={name: model.settings.min_workers for model in models for name in model.names},
    )


def _ready_clients(roster: Roster, model: str) -> list[EngineClient]:
    """How to speak to the ready workers that serve a model."""
    return [member.client for member in roster.ready() if member.client is not None and model in member.models]


def _supervise(
    planned: PlannedEngine, driver: SchedulerDriver, roster: Roster, settings: Settings, configured: frozenset[str]
) -> Supervisor:
    engine, names = planned.engine, frozenset(planned.model.names)

    def on_ready(ready: EngineReady) -> None:
        _check_names(engine.worker_id, ready.models, names, configured)
        roster.engine_ready(engine.worker_id, ready)

    supervisor = Supervisor(
        engine,
        driver.tell,
        on_ready,
        time.monotonic,
        settings.max_running_requests,
        hardware=planned.hardware,
        before_parking=lambda: roster.take_last_report(engine.worker_id),
    )
    roster.add(supervisor)
    return supervisor


def _check_names(worker_id: str, listed: frozenset[str], expected: frozenset[str], configured: frozenset[str]) -> None:
    """Tell an operator of requests that would wait for nobody, or go where they should not."""
    if missing := expected - listed:
        logger.warning("worker %s does not serve %s; it lists %s", worker_id, sorted(missing), sorted(listed))
    if foreign := listed & (configured - expected):
        logger.warning("worker %s also serves %s, the name of another model here", worker_id, sorted(foreign))
