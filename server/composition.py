"""The composition root: settings in, a running server's parts out. The only place that knows them all."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from metering.choice import ENGINES_ON_HOST_KEY
from scheduler.core import Scheduler
from scheduler.driver import SchedulerDriver
from scheduler.limits import SchedulerLimits
from scheduler.policy import POLICIES
from scheduler.targets import LatencyTargets
from server.app import AppParts, create_app
from server.command_sink import CommandSink
from server.context_limit import ContextLimits
from server.decision_log import DecisionLog
from server.errors import StartError
from server.host_gpus import UNKNOWN_HARDWARE, HostGpus, list_gpus
from server.latency_targets import latency_targets
from server.ledger.ledger import NoLedger
from server.ledger_of_aborts import LedgerOfAborts
from server.metrics import ServerMetrics
from server.model_store import ResolvedModel
from server.proxy import Proxy
from server.request_books import RequestBooks
from server.roster import Roster
from server.scheduler_route import SchedulerReport
from server.settings import Settings
from workers.child_engine import ChildEngine
from workers.client import EngineClient
from workers.engine import Engine, EngineReady
from workers.remote_engine import RemoteEngine
from workers.supervisor import Supervisor
from workers.vllm_engine import divide_cores, divide_gpus, vllm_command, vllm_environ


@dataclass(frozen=True, slots=True)
class ServerParts:
    """A server that is put together and not yet running."""

    app: FastAPI
    driver: SchedulerDriver
    proxy: Proxy
    roster: Roster
    metrics: ServerMetrics
    supervisors: tuple[Supervisor, ...]
    targets: LatencyTargets


def compose(settings: Settings, model: ResolvedModel | None, on_engine_line: Callable[[str, str], None]) -> ServerParts:
    """Put a server together. `model` is None where all workers are remote."""
    # What an attached server runs on is not known; a GPU is assumed unless the operator says cpu.
    device = settings.device if settings.worker_urls else detect_device(settings.device)
    targets = latency_targets(device, settings.slo_ttft_seconds, settings.slo_tpot_seconds)
    limits = SchedulerLimits(
        max_queued_requests=settings.max_queued_requests,
        queue_timeout_seconds=settings.queue_timeout_seconds,
        flex_wait_seconds=settings.flex_wait_seconds,
        min_workers=settings.min_workers,
        power_cap_watts=settings.power_cap_watts,
    )
    core = Scheduler(POLICIES[settings.policy](targets), limits, _configured_models(model), targets)
    metrics = ServerMetrics()
    books = RequestBooks(NoLedger(), metrics)
    aborts = LedgerOfAborts(books.charge)
    roster = Roster(aborts.charged, stall_seconds=settings.stall_seconds)
    metrics.watch(roster)
    log = DecisionLog(time.time)
    supervisors: dict[str, Supervisor] = {}
    driver = SchedulerDriver(core, time.monotonic, CommandSink(supervisors, metrics, log).take)
    context_limits = ContextLimits(lambda served: _ready_clients(roster, served), time.monotonic)
    served_name = model.served_name if model is not None else None
    proxy = Proxy(driver, roster, metrics, aborts, books, context_limits, served_name, settings.max_body_bytes)
    for engine, hardware in _engines(settings, model, device, on_engine_line):
        supervisors[engine.worker_id] = _supervise(engine, driver, roster, settings, hardware)
    report = SchedulerReport(settings.policy, targets, limits, core, roster, log)
    app = create_app(AppParts(roster, core, metrics, proxy, report))
    return ServerParts(app, driver, proxy, roster, metrics, tuple(supervisors.values()), targets)


def detect_device(device: str) -> str:
    """`auto` resolved: `cuda` where an NVIDIA driver lists a GPU, else `cpu`."""
    if device != "auto":
        return device
    return "cuda" if list_gpus().indices() else "cpu"


def _configured_models(model: ResolvedModel | None) -> frozenset[str]:
    return frozenset({model.served_name}) if model is not None else frozenset()


def _ready_clients(roster: Roster, model: str) -> list[EngineClient]:
    """How to speak to the ready workers that serve a model."""
    return [member.client for member in roster.ready() if member.client is not None and model in member.models]


def _supervise(
    engine: Engine, driver: SchedulerDriver, roster: Roster, settings: Settings, hardware: str
) -> Supervisor:
    def on_ready(ready: EngineReady) -> None:
        roster.engine_ready(engine.worker_id, ready)

    supervisor = Supervisor(
        engine,
        driver.tell,
        on_ready,
        time.monotonic,
        settings.max_running_requests,
        hardware=hardware,
        before_parking=lambda: roster.take_last_report(engine.worker_id),
    )
    roster.add(supervisor)
    return supervisor


def _engines(
    settings: Settings, model: ResolvedModel | None, device: str, on_line: Callable[[str, str], None]
) -> list[tuple[Engine, str]]:
    """The engines, each with the class of hardware it runs on."""
    if settings.worker_urls:
        urls = enumerate(settings.worker_urls)
        return [(RemoteEngine(f"remote-{index}", url), UNKNOWN_HARDWARE) for index, url in urls]
    assert model is not None
    gpus = list_gpus() if device == "cuda" else HostGpus(())
    cores = divide_cores(settings.workers) if device == "cpu" else [None] * settings.workers
    visible_gpus = _gpus_of_workers(settings.workers, gpus) if device == "cuda" else [None] * settings.workers
    engines: list[tuple[Engine, str]] = []
    for index in range(settings.workers):
        worker_id = f"vllm-{index}"
        environ = vllm_environ(os.environ, worker_id, settings.meter, device, cores[index])
        # Counters of the whole host belong to one engine only. What others the operator knows of counts too.
        environ.setdefault(ENGINES_ON_HOST_KEY, str(settings.workers))
        if (visible := visible_gpus[index]) is not None:
            environ["CUDA_VISIBLE_DEVICES"] = visible
        hardware = "cpu" if device == "cpu" else gpus.hardware_of(environ.get("CUDA_VISIBLE_DEVICES"))
        engine = ChildEngine(worker_id, _command(model, device, settings), environ, on_line, cores[index])
        engines.append((engine, hardware))
    return engines


def _gpus_of_workers(workers: int, gpus: HostGpus) -> list[str | None]:
    if workers == 1:
        return [None]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else gpus.indices()
    if len(devices) < workers:
        raise StartError(
            f"workers = {workers}: this machine shows {len(devices)} GPU(s), and each worker needs its own"
        )
    return list(divide_gpus(workers, devices))


def _command(model: ResolvedModel, device: str, settings: Settings) -> Callable[[Path], tuple[str, ...]]:
    return lambda socket: vllm_command(model.path_or_id, model.served_name, device, settings.engine_args, socket)
