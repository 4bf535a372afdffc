"""The composition root: settings in, a running server's parts out. The only place that knows them all."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from metering.choice import ENGINES_ON_HOST_KEY
from scheduler.commands import Command, Dispatch
from scheduler.core import Scheduler
from scheduler.driver import SchedulerDriver
from scheduler.limits import SchedulerLimits
from scheduler.policy import POLICIES
from scheduler.targets import LatencyTargets
from server.app import AppParts, create_app
from server.errors import StartError
from server.ledger_of_aborts import LedgerOfAborts
from server.metrics import ServerMetrics
from server.model_store import ResolvedModel
from server.proxy import Proxy
from server.roster import Roster
from server.settings import Settings
from workers.child_engine import ChildEngine
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


def compose(settings: Settings, model: ResolvedModel | None, on_engine_line: Callable[[str, str], None]) -> ServerParts:
    """Put a server together. `model` is None where all workers are remote."""
    configured = frozenset({model.served_name}) if model is not None else frozenset[str]()
    core = Scheduler(
        POLICIES[settings.policy](LatencyTargets()),
        SchedulerLimits(settings.max_queued_requests, settings.queue_timeout_seconds),
        configured,
    )
    metrics = ServerMetrics()
    aborts = LedgerOfAborts(metrics.charge)
    roster = Roster(aborts.charged)
    metrics.watch(roster)

    def count_dispatch(command: Command) -> None:
        if isinstance(command, Dispatch):
            metrics.dispatched(command.worker_id, command.reason)

    driver = SchedulerDriver(core, time.monotonic, count_dispatch)
    proxy = Proxy(driver, roster, metrics, aborts, model.served_name if model else None, settings.max_body_bytes)
    engines = _engines(settings, model, on_engine_line)
    supervisors = tuple(_supervise(engine, driver, roster, settings.max_running_requests) for engine in engines)
    app = create_app(AppParts(roster, core, metrics, proxy))
    return ServerParts(app, driver, proxy, roster, metrics, supervisors)


def detect_device(device: str) -> str:
    """`auto` resolved: `cuda` where an NVIDIA driver lists a GPU, else `cpu`."""
    if device != "auto":
        return device
    return "cuda" if _listed_gpus() else "cpu"


def _listed_gpus() -> list[str]:
    """Indices of the GPUs that the NVIDIA driver lists.

    Raises:
        StartError: the driver's tool is there and does not answer.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        listing = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartError(f"nvidia-smi does not answer ({error}): mend the driver, or use --device cpu") from error
    gpus = [line for line in listing.stdout.splitlines() if line.startswith("GPU ")]
    return [str(index) for index in range(len(gpus))] if listing.returncode == 0 else []


def _supervise(engine: Engine, driver: SchedulerDriver, roster: Roster, max_running_requests: int) -> Supervisor:
    def on_ready(ready: EngineReady) -> None:
        roster.engine_ready(engine.worker_id, ready)

    supervisor = Supervisor(engine, driver.tell, on_ready, time.monotonic, max_running_requests)
    roster.add(supervisor)
    return supervisor


def _engines(settings: Settings, model: ResolvedModel | None, on_line: Callable[[str, str], None]) -> list[Engine]:
    if settings.worker_urls:
        return [RemoteEngine(f"remote-{index}", url) for index, url in enumerate(settings.worker_urls)]
    assert model is not None
    device = detect_device(settings.device)
    cores = divide_cores(settings.workers) if device == "cpu" else [None] * settings.workers
    gpus = _gpus_of_workers(settings.workers) if device == "cuda" else [None] * settings.workers
    engines: list[Engine] = []
    for index in range(settings.workers):
        worker_id = f"vllm-{index}"
        environ = vllm_environ(os.environ, worker_id, settings.meter, device, cores[index])
        # Counters of the whole host belong to one engine only. What others the operator knows of counts too.
        environ.setdefault(ENGINES_ON_HOST_KEY, str(settings.workers))
        if (visible := gpus[index]) is not None:
            environ["CUDA_VISIBLE_DEVICES"] = visible
        engines.append(ChildEngine(worker_id, _command(model, device, settings), environ, on_line, cores[index]))
    return engines


def _gpus_of_workers(workers: int) -> list[str | None]:
    if workers == 1:
        return [None]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else _listed_gpus()
    if len(devices) < workers:
        raise StartError(
            f"workers = {workers}: this machine shows {len(devices)} GPU(s), and each worker needs its own"
        )
    return list(divide_gpus(workers, devices))


def _command(model: ResolvedModel, device: str, settings: Settings) -> Callable[[Path], tuple[str, ...]]:
    return lambda socket: vllm_command(model.path_or_id, model.served_name, device, settings.engine_args, socket)
