"""Many metered workers in one process, each on a socket of its own: `python -m bench.scrape.stand_in FOLDER WORKERS`.

They answer from bytes made beforehand, so that a scrape is measured and not they. What they tell is as much as a busy
worker with one GPU tells: all accounts, every fault, and the longest list of requests that a worker keeps.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, Final

MODEL: Final = "stand-in"
# As many as the meter keeps (metering/meter.py), and how many end between one look and the next, half a second later.
_RECENT_REQUESTS: Final = 256
_ENDED_BETWEEN: Final = 8
_PAGES: Final = 16
_FAULTS: Final = ("reset", "jump", "stall", "lost", "sampler", "suspended")


def socket_path(folder: Path, number: int) -> Path:
    """Where a worker listens."""
    return folder / f"worker-{number}.sock"


def telemetry(number: int, ended_requests: int = 0) -> dict[str, Any]:
    """The body of one worker's `GET /energy`; so many of its requests have left the list by now."""
    accounts = {"prefill": 1.2e9, "decode": 9.3e9, "idle": 4.4e9, "loading": 2.2e9, "unattributed": 1e5}
    return {
        "instance_id": f"instance-{number}",
        "model": MODEL,
        "source": "nvml",
        "measured": True,
        "reason": None,
        "power_watts": {"gpu": 312.4},
        "accounts_microjoules": {"gpu": {name: int(energy) + number for name, energy in accounts.items()}},
        "in_flight_microjoules": {"gpu": {"prefill": 0, "decode": 0}},
        "counter_faults": {f"gpu:GPU-{number:08x}-1111-2222-3333-444455556666": dict.fromkeys(_FAULTS, 0)},
        "running_requests": 12,
        "waiting_requests": 1,
        "work": {
            "steps_total": 52_000,
            "step_seconds_total": 3601.5,
            "decode_tokens_total": 601_322,
            "prefill_tokens_total": 1_201_778,
            "loading_seconds": 42.5,
            "kv_cache_usage_ratio": 0.31,
        },
        "recent_requests": [
            {
                "request_id": f"chatcmpl-{number:04}{place:028x}",
                "outcome": "completed",
                "prefill_microjoules": 1_000_000 + place,
                "decode_microjoules": 12_000_000 + place,
                "prompt_tokens": 811,
                "output_tokens": 233,
            }
            for place in range(ended_requests, ended_requests + _RECENT_REQUESTS)
        ],
        "recent_aborts": [],
    }


def _whole(body: object) -> bytes:
    data = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data


def _answer_body() -> dict[str, Any]:
    energy = {
        "energy_joules": 13.0,
        "prefill_joules": 1.0,
        "decode_joules": 12.0,
        "components_joules": {"gpu": 13.0},
        "source": "nvml",
        "measured": True,
        "prompt_tokens": 811,
        "output_tokens": 233,
    }
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": MODEL, "choices": [], "energy": energy}


class _Worker(asyncio.Protocol):
    """One connection; each request is answered once its head and body are there. `energy` never ends."""

    def __init__(self, answers: dict[bytes, bytes], energy: Iterator[bytes]) -> None:
        self._answers = answers
        self._energy = energy
        self._answer = answers[b"*"]
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            size = end + 4 + _content_length(head)
            if len(self._received) < size:
                return
            self._received = self._received[size:]
            assert self._transport is not None
            path = head.split(b" ", 2)[1]
            self._transport.write(next(self._energy) if path == b"/energy" else self._answers.get(path, self._answer))


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def _serve(folder: Path, workers: int) -> None:
    loop = asyncio.get_running_loop()
    listing = {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "max_model_len": 32_768}]}
    answers = {b"/v1/models": _whole(listing), b"*": _whole(_answer_body())}
    for number in range(workers):
        pages = [_whole(telemetry(number, _ENDED_BETWEEN * page)) for page in range(_PAGES)]
        energy = cycle(pages)

        def worker(energy: Iterator[bytes] = energy) -> _Worker:
            return _Worker(answers, energy)

        await loop.create_unix_server(worker, str(socket_path(folder, number)))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
