"""How far the engines are with starting, told while it is waited for."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from server.console import Console
from workers.supervisor import Supervisor, WorkerState

_LOOK_SECONDS: Final = 0.1
_HEARTBEAT_SECONDS: Final = 10.0
_BEGINNING: Final = "loading"
# What vLLM 0.32 prints as it goes, and what it means. Where other words are printed, the last phase known is shown.
_PHASES: Final = (
    ("Starting to load model", "loading the weights"),
    ("Loading weights took", "preparing the model"),
    ("Starting torch.compile", "compiling"),
    ("Dynamo bytecode transform", "compiling"),
    ("KV cache size", "warming up"),
    ("Warming up", "warming up"),
    ("Capturing CUDA graphs", "capturing graphs"),
    ("init engine", "opening its API"),
)


class EngineLines:
    """Engines' output: what it says of the start is kept, all of it goes to the log at debug level.

    It may quote what callers sent, which is logged only when asked for.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._phases: dict[str, str] = {}

    def __call__(self, worker_id: str, line: str) -> None:
        for words, phase in _PHASES:
            if words in line:
                self._phases[worker_id] = phase
        self._log.debug("%s: %s", worker_id, line)

    def phase(self, worker_id: str) -> str:
        """What the worker was last heard to be doing on its way up."""
        return self._phases.get(worker_id, _BEGINNING)


def waiting_text(waiting: Sequence[str], phase: Callable[[str], str], seconds: float) -> str:
    """As `loading vllm-0, vllm-1: 20 s`, workers by what they are doing."""
    by_phase: dict[str, list[str]] = {}
    for worker_id in waiting:
        by_phase.setdefault(phase(worker_id), []).append(worker_id)
    parts = []
    for doing, ids in by_phase.items():
        parts.append(f"{_BEGINNING} {', '.join(ids)}" + ("" if doing == _BEGINNING else f" ({doing})"))
    return f"{'; '.join(parts)}: {seconds:.0f} s"


async def say_progress(
    console: Console, supervisors: Sequence[Supervisor], phase: Callable[[str], str], address: str, started_at: float
) -> None:
    """Say what is still being waited for, and how to begin once a worker is ready: in place, or every few seconds."""
    next_heartbeat = started_at + _HEARTBEAT_SECONDS
    with console.in_place() as show:
        while not any(supervisor.state is WorkerState.READY for supervisor in supervisors):
            now = time.monotonic()
            waiting = [s.engine.worker_id for s in supervisors if s.state is not WorkerState.READY]
            if show is not None:
                show(waiting_text(waiting, phase, now - started_at))
            elif now >= next_heartbeat:
                next_heartbeat += _HEARTBEAT_SECONDS
                console.say(f"  {waiting_text(waiting, phase, now - started_at)}")
            await asyncio.sleep(_LOOK_SECONDS)
    console.say(f"ready after {time.monotonic() - started_at:.1f} s on {address}  (Ctrl-C stops)")
