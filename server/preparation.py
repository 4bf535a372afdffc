"""What is opened and checked before anything slow starts, so that a mistake costs seconds and not a model's loading."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from server.carbon.opening import OpenCarbon, open_carbon
from server.meter_facts import MeterFacts, meter_facts
from server.settings import Settings
from server.tls import TlsFiles, tls_files
from server.tracing import Tracing, open_tracing


@dataclass(frozen=True, slots=True)
class Prepared:
    """Handed to the run. Whoever holds it closes the tracing at the end."""

    listener: socket.socket
    tls: TlsFiles | None
    carbon: OpenCarbon | None
    tracing: Tracing
    meter: MeterFacts | None


def prepare(settings: Settings, listen: Callable[[Settings], socket.socket]) -> Prepared:
    """Check what the settings name, and take the port.

    Raises:
        MeteringError: what was asked for cannot be measured here.
        SettingError: something is not there, not readable, or does not fit together.
        StartError: the port cannot be had.
    """
    meter = meter_facts(settings)
    tls = tls_files(
        settings.ssl_certfile,
        settings.ssl_keyfile,
        settings.ssl_keyfile_password,
        settings.ssl_ca_certs,
        settings.ssl_client_auth,
    )
    if tls is not None:
        tls.check()
    carbon = open_carbon(settings.carbon, time.time)
    return Prepared(listen(settings), tls, carbon, open_tracing(enabled=settings.otel), meter)
