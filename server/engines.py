"""The engines of all models, not yet started: each with its share of the machine's cores or GPUs."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from metering.choice import ENGINES_ON_HOST_KEY
from server.errors import StartError
from server.host_gpus import UNKNOWN_HARDWARE, HostGpus, list_gpus
from server.served_models import ServedModel
from workers.child_engine import ChildEngine
from workers.engine import Engine
from workers.remote_engine import RemoteEngine
from workers.vllm_engine import divide_cores, divide_gpus, vllm_command, vllm_environ

_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
OnEngineLine = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class PlannedEngine:
    """An engine, the model it is for and the class of hardware it runs on."""

    engine: Engine
    model: ServedModel
    hardware: str


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a worker runs: on these cores, or on these GPUs. None is all there are."""

    cores: tuple[int, ...] | None = None
    gpus: str | None = None


def detect_device(device: str) -> str:
    """`auto` resolved: `cuda` where an NVIDIA driver lists a GPU, else `cpu`."""
    if device != "auto":
        return device
    return "cuda" if list_gpus().indices() else "cpu"


def plan_engines(models: Sequence[ServedModel], meter: str, on_line: OnEngineLine) -> list[PlannedEngine]:
    """One engine for each worker of each model, in their order.

    Raises:
        StartError: there are fewer GPUs than the workers need.
    """
    started = [(model, worker_id) for model in models if not model.is_attached for worker_id in model.worker_ids]
    gpus = list_gpus() if any(model.device == "cuda" for model, _ in started) else HostGpus(())
    places = _places(started, gpus)
    planned: list[PlannedEngine] = []
    for model in models:
        for index, worker_id in enumerate(model.worker_ids):
            if model.is_attached:
                remote = RemoteEngine(worker_id, model.settings.worker_urls[index])
                planned.append(PlannedEngine(remote, model, UNKNOWN_HARDWARE))
                continue
            environ = _environ(model, worker_id, places[worker_id], meter, len(started))
            child = ChildEngine(worker_id, _command(model), environ, on_line, places[worker_id].cores)
            hardware = "cpu" if model.device == "cpu" else gpus.hardware_of(environ.get(_VISIBLE))
            planned.append(PlannedEngine(child, model, hardware))
    return planned


def _places(started: Sequence[tuple[ServedModel, str]], gpus: HostGpus) -> Mapping[str, _Place]:
    on_cpu = [worker_id for model, worker_id in started if model.device == "cpu"]
    on_gpu = [(worker_id, model.settings.gpus_per_worker) for model, worker_id in started if model.device != "cpu"]
    places = {
        worker_id: _Place(cores=cores) for worker_id, cores in zip(on_cpu, divide_cores(len(on_cpu)), strict=True)
    }
    shares = _gpu_shares([wanted for _, wanted in on_gpu], gpus)
    return places | {worker_id: _Place(gpus=share) for (worker_id, _), share in zip(on_gpu, shares, strict=True)}


def _gpu_shares(wanted: Sequence[int | None], gpus: HostGpus) -> list[str | None]:
    """`CUDA_VISIBLE_DEVICES` of each worker; a lone one that wants no number of its own is left what there is."""
    if list(wanted) in ([], [None]):
        return [None] * len(wanted)
    visible = os.environ.get(_VISIBLE)
    devices = visible.split(",") if visible else gpus.indices()
    needed = sum(1 if count is None else count for count in wanted)
    if len(devices) < needed:
        raise StartError(
            f"workers = {len(wanted)}: this machine shows {len(devices)} GPU(s), and they need {needed}: each its own"
        )
    return list(divide_gpus(wanted, devices))


def _environ(model: ServedModel, worker_id: str, place: _Place, meter: str, engines_on_host: int) -> dict[str, str]:
    environ = vllm_environ(os.environ, worker_id, meter, model.device, place.cores)
    # Counters of the whole host belong to one engine only. What others the operator knows of counts too.
    environ.setdefault(ENGINES_ON_HOST_KEY, str(engines_on_host))
    if place.gpus is not None:
        environ[_VISIBLE] = place.gpus
    return environ


def _command(model: ServedModel) -> Callable[[Path], tuple[str, ...]]:
    assert model.path_or_id is not None
    path_or_id, arguments = model.path_or_id, model.settings.engine_args
    return lambda socket: vllm_command(path_or_id, model.names[0], model.device, arguments, socket)
