"""How a vLLM OpenAI server is started with our meter in it: its command line, environment and cores."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from workers.cpu_dtype import dtype_arguments

# Room for about 46,000 tokens of a model the size of SmolLM2-135M. vLLM's own default takes half of the memory.
_CPU_KV_CACHE_GIB: Final = "1"


def vllm_command(model: str, served_name: str, device: str, extra: Sequence[str], socket_path: Path) -> tuple[str, ...]:
    """The command of a metered vLLM server. `extra` comes last, so that the operator's arguments win.

    vLLM is started as a module: the CPU build's console script looks up a distribution that is not there. -P keeps the
    folder we were started in from shadowing installed packages.
    """
    command = [
        *(sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", model, "--served-model-name", served_name, "--uds", str(socket_path)),
        *("--middleware", "metering.vllm_plugin.EnergyMiddleware", "--enable-logging-iteration-details"),
        "--disable-uvicorn-access-log",
    ]
    if device == "cpu":
        # Compiling takes a minute at the first start and gains little for small models on a CPU.
        command += ["--enforce-eager", *dtype_arguments()]
    return (*command, *extra)


def vllm_environ(
    environ: Mapping[str, str], worker_id: str, meter: str, device: str, cores: Sequence[int] | None
) -> dict[str, str]:
    """The environment of a worker. What the operator has set stays as it is."""
    worker = dict(environ)
    defaults = {
        "VLLM_NO_USAGE_STATS": "1",
        # Step statistics are reported after the last block of outputs; one block keeps them ahead of the bodies.
        "VLLM_V1_OUTPUT_PROC_CHUNK_SIZE": "4096",
    }
    if device == "cpu":
        defaults["VLLM_CPU_KVCACHE_SPACE"] = _CPU_KV_CACHE_GIB
        if cores:
            defaults["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(str(core) for core in cores)
        openmp = Path(sys.prefix) / "lib" / "libiomp5.so"
        if openmp.exists():
            defaults["LD_PRELOAD"] = str(openmp)
    for name, value in defaults.items():
        worker.setdefault(name, value)
    # A key that the operator gave to some other server would lock us out of this one, which only we can reach.
    worker.pop("VLLM_API_KEY", None)
    worker["WATTLINE_METER"] = meter
    worker["WATTLINE_WORKER_ID"] = worker_id
    return worker


def divide_cores(workers: int, available: Sequence[int] | None = None) -> list[tuple[int, ...] | None]:
    """Split this process's CPUs evenly between workers, in neighbouring runs; None for a lone worker.

    With more workers than cores, cores are shared in turn.
    """
    cores = sorted(available if available is not None else os.sched_getaffinity(0))
    if workers <= 1:
        return [None] * workers
    if workers > len(cores):
        return [(cores[index % len(cores)],) for index in range(workers)]
    share = len(cores) // workers
    return [tuple(cores[index * share : (index + 1) * share]) for index in range(workers)]


def divide_gpus(wanted: Sequence[int | None], devices: Sequence[str]) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each worker, dealt out in neighbouring runs.

    `wanted` is how many each needs; those that name none share what is left evenly. There are enough for that.
    """
    open_shares = sum(count is None for count in wanted)
    left = len(devices) - sum(count for count in wanted if count is not None)
    share = left // open_shares if open_shares else 0
    shares: list[str] = []
    at = 0
    for count in wanted:
        end = at + (share if count is None else count)
        shares.append(",".join(devices[at:end]))
        at = end
    return shares
