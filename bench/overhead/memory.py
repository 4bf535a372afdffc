"""What the front end's memory does: over many requests, where a leak shows, and with many streams open at once."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import uvloop

from bench.children import peak_rss_bytes, rss_bytes
from bench.http_load import LoadSettings, chat_request, run_in_process
from bench.overhead.contenders import Contender
from bench.overhead.held_streams import StreamHolder
from bench.overhead.settings import MODEL, HeldStreamSettings, OverheadSettings
from workers.open_files import raise_open_files_limit

_LOAD_SECONDS: Final = 120.0  # the limit of one memory load, which normally ends by its requests
_WARM_REQUESTS: Final = 500  # what is loaded and allocated with the first requests is no stream's
_OPEN_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class MemoryGrowth:
    """The front end's peak memory after two numbers of requests."""

    first_requests: int
    first_peak_rss_bytes: int
    last_requests: int
    last_peak_rss_bytes: int
    errors: int

    @property
    def ratio(self) -> float:
        return self.last_peak_rss_bytes / self.first_peak_rss_bytes

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio}


@dataclass(frozen=True, slots=True)
class IdleStreams:
    """The front end's memory without streams and with so many open that have had a first token and no second."""

    streams: int
    rss_without_bytes: int
    rss_with_bytes: int

    @property
    def bytes_per_stream(self) -> float:
        return (self.rss_with_bytes - self.rss_without_bytes) / self.streams

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "bytes_per_stream": self.bytes_per_stream}


def memory_growth(settings: OverheadSettings, front_end: Contender) -> MemoryGrowth:
    """Reads the peak twice, under load in between."""
    first, last = settings.memory_requests
    errors = 0
    peaks: list[int] = []
    for requests in (first, last - first):
        errors += _chats(front_end, settings.connections, requests)
        peaks.append(peak_rss_bytes(front_end.pid))
    return MemoryGrowth(first, peaks[0], last, peaks[1], errors)


def idle_streams(settings: OverheadSettings, front_end: Contender) -> IdleStreams:
    """Opens the streams on an engine too slow for a second token meanwhile, and leaves them again."""
    _chats(front_end, settings.connections, _WARM_REQUESTS)
    held = replace(settings.held, ramp_seconds=min(settings.held.ramp_seconds, _OPEN_SECONDS))
    raise_open_files_limit()
    before = rss_bytes(front_end.pid)
    begun, after = uvloop.run(_open(front_end, held))
    return IdleStreams(begun, before, after)


async def _open(front_end: Contender, held: HeldStreamSettings) -> tuple[int, int]:
    request = chat_request(front_end.url, model=MODEL, max_tokens=2, stream=True, headers=front_end.headers)
    holder = StreamHolder(front_end.url, request, held)
    try:
        await holder.open()
        return max(holder.most_at_once, 1), rss_bytes(front_end.pid)
    finally:
        holder.close()


def _chats(front_end: Contender, connections: int, requests: int) -> int:
    request = chat_request(front_end.url, model=MODEL, max_tokens=1, headers=front_end.headers)
    return run_in_process(LoadSettings(front_end.url, request, connections, _LOAD_SECONDS, requests)).errors
