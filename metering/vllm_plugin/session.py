"""The one meter of a server process, where the stat logger and the middleware meet.

vLLM makes both of them itself and hands neither to the other, so a process-wide meeting point is unavoidable; it is
the only one in the project. All of it but the sampler runs on the server's event loop.
"""

import logging
import os
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
        self._sampler: Sampler | None = None
        self._start(environ)

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
        self.meter = EnergyMeter(tracks)
        logger.info("metering with source=%s components=%s", choice.source, ",".join(self.meter.components))

    def fail(self, reason: str) -> None:
        """Stop measuring: from now on energy is unknown, with this reason."""
        logger.error("energy is not measured: %s", reason)
        self.meter = None
        self.unmeasured_reason = reason

    def owner_of(self, engine_request_id: str) -> str:
        """The HTTP request that a sequence belongs to.

        vLLM makes its ids from ours: `chatcmpl-ID`, `cmpl-ID-0`, one suffix a prompt.
        """
        if self.meter is None:
            return engine_request_id
        _, _, request_id = engine_request_id.partition("-")
        if self.meter.is_open(request_id):
            return request_id
        stem, _, index = request_id.rpartition("-")
        return stem if index.isdigit() and self.meter.is_open(stem) else engine_request_id

    def unknown_block(self) -> bytes:
        """The energy block of a request that could not be measured."""
        return encode_block(unknown_energy_block(self.unmeasured_reason))

    def telemetry(self) -> dict[str, Any]:
        """The body of `GET /energy`."""
        now = time.monotonic()
        if self.meter is not None:
            self.meter.advance(now)
        report = telemetry(self.meter, self.unmeasured_reason, now)
        return {
            "instance_id": self.instance_id,
            "model": self.model,
            **report,
            "running_requests": self.running_requests,
            "waiting_requests": self.waiting_requests,
            "sampler_failures": self._sampler.failures if self._sampler else 0,
        }


_sessions: dict[int, MeterSession] = {}


def process_session() -> MeterSession:
    """The session of this process, started on first use. A forked child gets its own."""
    session = _sessions.get(os.getpid())
    if session is None:
        session = _sessions[os.getpid()] = MeterSession(os.environ)
    return session
