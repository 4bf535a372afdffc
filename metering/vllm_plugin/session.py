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
from metering.counter import EnergyReading
from metering.errors import MeteringError
from metering.meter import EnergyMeter
from metering.sampler import Sampler
from metering.telemetry import telemetry
from metering.track import CounterTrack

logger = logging.getLogger("wattline.metering")

METER_VARIABLE: Final = "WATTLINE_METER"
WORKER_VARIABLE: Final = "WATTLINE_WORKER_ID"

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
        self.waiting_requests = 0
        self.running_requests = 0
        self.meter: EnergyMeter | None = None
        self.unmeasured_reason = "the meter has not started"
        self._environ = environ
        self._sampler: Sampler | None = None
        self._tracks: list[CounterTrack] = []
        self._start(environ)
        self.latest_telemetry = self.telemetry()

    def _start(self, environ: Mapping[str, str]) -> None:
        try:
            choice = choose_counters(environ.get(METER_VARIABLE, "auto"), time.monotonic, os.getpid(), environ)
        except MeteringError as error:
            self.fail(str(error))
            return
        # The estimate counts from the start of the process; hardware counters from the first look at them.
        tracks = [
            CounterTrack(counter.info, origin_microjoules=0 if counter.info.source == "estimate" else None)
            for counter in choice.counters
        ]

        def observe(index: int, reading: EnergyReading) -> None:
            if tracks[index].observe(reading):
                info = tracks[index].info
                logger.warning("energy counter of %s restarted or leapt: epoch %d", info.device, tracks[index].epochs)

        self._sampler = Sampler(choice.counters, observe)
        self._sampler.read_once()
        self._sampler.start()
        self._tracks = tracks
        self.meter = EnergyMeter(tracks)
        logger.info("metering with source=%s components=%s", choice.source, ",".join(self.meter.components))

    def engine_uses(self, device_type: str, devices: int) -> None:
        """Measure what the engine uses, now that it is known: no board for one on the CPU, no more boards than it has.

        To be called before the first request. What the boards kept have spent since the start counts as loading.
        """
        if self.meter is None or self.meter.source != "nvml":
            return
        if device_type == "cpu" and self._environ.get(METER_VARIABLE, "auto") == "auto":
            if self._sampler is not None:
                self._sampler.stop()
            self._start({**self._environ, METER_VARIABLE: "estimate"})
        elif device_type != "cpu" and len(self._tracks) > devices:
            logger.info("metering the first %d of %d visible GPUs, those the engine uses", devices, len(self._tracks))
            self.meter = EnergyMeter(self._tracks[:devices])

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

    def unknown_block(self, reason: str | None = None) -> bytes:
        """The energy block of a request that could not be measured, by default because nothing can."""
        return encode_block(unknown_energy_block(reason or self.unmeasured_reason))

    def telemetry(self) -> dict[str, Any]:
        """The body of `GET /energy`, up to now. To be called on the event loop, like the meter itself."""
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
            "sampler_failures": self._sampler.failures if self._sampler else 0,
        }
        return self.latest_telemetry


_sessions: dict[int, MeterSession] = {}


def process_session() -> MeterSession:
    """The session of this process, started on first use. A forked child gets its own."""
    session = _sessions.get(os.getpid())
    if session is None:
        session = _sessions[os.getpid()] = MeterSession(os.environ)
    return session
