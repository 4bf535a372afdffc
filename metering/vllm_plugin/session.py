"""The one meter of a server process, where the stat logger and the middleware meet.

vLLM makes both of them itself and hands neither to the other, so a process-wide meeting point is unavoidable; it is
the only one in the project. All of it but the sampler runs on the server's event loop.
"""

import logging
import os
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final

from metering.block import encode_block, unknown_energy_block
from metering.choice import choose_counters
from metering.counter import CounterInfo, EnergyReading
from metering.errors import MeteringError
from metering.fault import CounterFault
from metering.meter import EnergyMeter
from metering.sampler import Sampler
from metering.telemetry import telemetry
from metering.track import CounterTrack
from metering.vllm_plugin.caps import EnergyCaps
from metering.work import EngineWork

logger = logging.getLogger("wattline.metering")

METER_VARIABLE: Final = "WATTLINE_METER"
WORKER_VARIABLE: Final = "WATTLINE_WORKER_ID"

# Long enough for any counter to move; loading an engine takes longer.
_LOADING_SECONDS: Final = 3.0

# What vLLM puts around our id: `cmpl-ID-3` (always an index, one per prompt), `chatcmpl-ID` and in batches
# `chatcmpl-ID_3`, `embd-ID-3`, `embd-ID-prompt-0-chunk-1`, `transcribe-ID`, and for beams `…-ID-HEX-beam-0`.
_ALWAYS_INDEXED: Final = "cmpl"
_ENGINE_KIND: Final = re.compile(r"^(generate-tokens|generative-scoring|[a-z]+)-")
_BEAM: Final = r"-[0-9a-f]{16,32}-beam-\d+$"
_CHAT_SUFFIX: Final = re.compile(rf"_\d+$|{_BEAM}")
_SUFFIX: Final = re.compile(rf"-prompt-\d+-chunk-\d+$|-\d+$|{_BEAM}")


class MeterSession:
    """Counters, sampler and meter of this process, or the reason why there are none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.instance_id = secrets.token_hex(8)
        self.worker_id = environ.get(WORKER_VARIABLE, "vllm")
        self.model = ""
        self._requests: dict[int, tuple[int, int]] = {}  # of each engine: running, waiting
        self.meter: EnergyMeter | None = None
        self.unmeasured_reason = "the meter has not started"
        # None until an engine is there that tells of its steps: zeros would say that it stands still.
        self.work: EngineWork | None = None
        self.caps = EnergyCaps(self)
        self._environ = environ
        self._sampler: Sampler | None = None
        self._tracks: list[CounterTrack] = []
        self._users: list[tuple[int, ...]] = []
        self._started_at_seconds = time.monotonic()
        self._engines_known = False
        self._engines = 0
        self._start(environ)
        self.latest_telemetry = self.telemetry()

    def _start(self, environ: Mapping[str, str], *, with_gpus: bool = True) -> None:
        setting = environ.get(METER_VARIABLE, "auto")
        try:
            choice = choose_counters(setting, time.monotonic, os.getpid(), environ, with_gpus=with_gpus)
        except MeteringError as error:
            self.fail(str(error))
            return
        # The estimate counts from the start of the process; hardware counters from the first look at them.
        tracks = [
            CounterTrack(counter.info, 0 if counter.info.source == "estimate" else None, _warn)
            for counter in choice.counters
        ]

        def observe(index: int, reading: EnergyReading) -> None:
            tracks[index].observe(reading)

        def interrupted(fault: CounterFault, unseen_seconds: float) -> None:
            for track in tracks:
                track.interrupt(fault, unseen_seconds)

        self._sampler = Sampler(choice.counters, observe, interrupted)
        self._sampler.read_once()
        self._sampler.start()
        self._tracks = tracks
        self._users = [(0,)] * len(tracks)
        self.meter = EnergyMeter(tracks)
        logger.info("metering with source=%s components=%s", choice.source, ",".join(self.meter.components))

    def engines_use(self, device_type: str, devices: int, engines: int) -> None:
        """Measure what the engines use, now that it is known: no board for those on the CPU, no more than theirs.

        Each of `engines` uses `devices`, the first of those visible the first, and so on. To be called before the first
        request; the first call counts. What the boards kept have spent since the start is loading.
        """
        if self.meter is None or self._engines_known:
            return
        self._engines_known = True
        has_boards = any(track.info.component == "gpu" for track in self._tracks)
        are_strange = device_type == "cpu" and self._environ.get(METER_VARIABLE, "auto") == "auto"
        if has_boards and are_strange and not self._restart_without_boards():
            return
        if not has_boards and device_type != "cpu" and self.measured:
            self.fail(f"no counter for the engine's {device_type} device: the host's alone would pass for the whole")
            return
        kept, users = _served(self._tracks, devices if device_type != "cpu" else None, engines)
        if len(kept) < len(self._tracks):
            logger.info("metering %d of the %d visible counters, those the engines use", len(kept), len(self._tracks))
        self._users = users
        if engines > 1 or len(kept) < len(self._tracks):
            self.meter = EnergyMeter(kept, engines, users)

    def engines_ready(self, now_seconds: float) -> None:
        """Loading is over. Components of which a counter has not moved once in all that time are left out.

        Some boards list a memory zone that always reads zero; waiting for it would make all energy unknown.
        """
        if self.work is not None:
            self.work.loaded(now_seconds - self._started_at_seconds)
        if self.meter is None:
            return
        tracks = self.meter.tracks
        dead = {one.info.component for one in tracks if not (one.has_moved or one.info.may_stand_still)}
        kept = [one for one in tracks if one.info.component not in dead]
        if dead and kept and now_seconds - self._started_at_seconds > _LOADING_SECONDS:
            logger.warning("counters that never moved are left out: components=%s", ",".join(sorted(dead)))
            users = [used for used, one in zip(self._users, tracks, strict=True) if one in kept]
            self._users = users
            self.meter = EnergyMeter(kept, self.meter.engines, users)
        self.meter.engine_ready(now_seconds)

    def add_engine(self) -> int:
        """The number of one more engine in this process, counted from 0."""
        self._engines += 1
        if self.work is None:
            self.work = EngineWork()
        if self.meter is not None and self._engines > self.meter.engines:
            self.fail(f"{self._engines} engines run in this server where vLLM announced {self.meter.engines}")
        return self._engines - 1

    @property
    def measured(self) -> bool:
        """Whether hardware is read."""
        return self.meter is not None and self.meter.measured

    def count(self, engine: int, running: int, waiting: int) -> None:
        """Note how many requests one engine is working on."""
        self._requests[engine] = running, waiting

    @property
    def running_requests(self) -> int:
        return sum(running for running, _ in self._requests.values())

    @property
    def waiting_requests(self) -> int:
        return sum(waiting for _, waiting in self._requests.values())

    def look_after_sampler(self) -> None:
        """Start the sampler's thread again where it has died. Cheap: called with every step and every report."""
        if self._sampler is not None and self.meter is not None:
            self._sampler.revive()

    def _restart_without_boards(self) -> bool:
        """Whether anything measures afterwards."""
        if self._sampler is not None:
            self._sampler.stop()
        self._start(self._environ, with_gpus=False)
        return self.meter is not None

    def fail(self, reason: str) -> None:
        """Stop measuring: from now on energy is unknown, with this reason."""
        logger.error("energy is not measured: %s", reason)
        if self._sampler is not None:
            self._sampler.stop()
        self.meter = None
        self.unmeasured_reason = reason

    def owner_of(self, engine_request_id: str) -> str:
        """The HTTP request that a sequence belongs to.

        An id that ends like an index (`job-12`) is no trouble: which kinds carry one is known. What belongs to no
        request the meter knows is returned as it is.
        """
        kind = _ENGINE_KIND.match(engine_request_id)
        if self.meter is None or kind is None:
            return engine_request_id
        name = engine_request_id[kind.end() :]
        if kind[1] != _ALWAYS_INDEXED and self.meter.knows(name):
            return name
        stem = (_CHAT_SUFFIX if kind[1] == "chatcmpl" else _SUFFIX).sub("", name)
        return stem if stem != name and self.meter.knows(stem) else engine_request_id

    def why_caps_cannot_be_kept(self, now_seconds: float) -> str | None:
        """Why the energy of a request that starts now would not be known while it runs; None where it would."""
        if self.meter is None:
            return self.unmeasured_reason
        silent = [name for name, watts in self.meter.power_watts(now_seconds).items() if watts is None]
        return f"the energy counter of {silent[0]} does not answer" if silent else None

    def unknown_block(self, reason: str | None = None, **fields: Any) -> bytes:  # noqa: ANN401  # JSON of any type
        """The energy block of a request that could not be measured, by default because nothing can."""
        return encode_block(unknown_energy_block(reason or self.unmeasured_reason) | fields)

    def telemetry(self) -> dict[str, Any]:
        """The body of `GET /energy`, up to now. To be called on the event loop, like the meter itself."""
        self.look_after_sampler()
        now = time.monotonic()
        if self.meter is not None:
            self.meter.advance(now)
        report = telemetry(self.meter, self.unmeasured_reason, now)
        self.latest_telemetry = {
            "instance_id": self.instance_id,
            "model": self.model,
            **report,
            "running_requests": self.running_requests,
            "waiting_requests": self.waiting_requests,
            "work": self.work.report() if self.work is not None else None,
            "sampler_failures": self._sampler.failures if self._sampler else 0,
        }
        return self.latest_telemetry


def _served(
    tracks: list[CounterTrack], devices: int | None, engines: int
) -> tuple[list[CounterTrack], list[tuple[int, ...]]]:
    """The counters that `engines` use, and which of them each serves: `devices` boards one each, the rest all."""
    kept: list[CounterTrack] = []
    users: list[tuple[int, ...]] = []
    boards = 0
    shown = sum(track.info.component == "gpu" for track in tracks)
    # Fewer counters than devices: some counter covers several (AMD's boards of two). They are shared by all.
    told_apart = devices is not None and shown >= devices * engines
    for track in tracks:
        serves = tuple(range(engines))
        if track.info.component == "gpu" and devices is not None and told_apart:
            serves = serves[boards // devices : boards // devices + 1]
            boards += 1
        if serves:
            kept.append(track)
            users.append(serves)
    return kept, users


def _warn(info: CounterInfo, fault: CounterFault) -> None:
    logger.warning(
        "energy counter fault, a new epoch begins: fault=%s device=%s component=%s source=%s",
        fault.value,
        info.device,
        info.component,
        info.source,
    )


_sessions: dict[int, MeterSession] = {}


def process_session() -> MeterSession:
    """The session of this process, started on first use. A forked child gets its own."""
    session = _sessions.get(os.getpid())
    if session is None:
        session = _sessions[os.getpid()] = MeterSession(os.environ)
    return session
