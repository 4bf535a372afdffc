"""Settings of running the server rather than of serving: certificates, deadlines of connections, logs, spans."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from server.logs import LogFormat
from server.secret import Secret
from server.tls import ClientAuth


class OperationsSettings(BaseSettings):
    """The part of `Settings` that nothing but the composition root and the command line reads.

    `head_timeout_seconds` is for a request's whole head, `body_stall_seconds` for the next byte of its body,
    `keep_alive_seconds` for the next request on a connection, `drain_seconds` for the requests in flight at the end.
    """

    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_keyfile_password: Secret | None = None
    ssl_ca_certs: Path | None = None
    ssl_client_auth: ClientAuth | None = None
    head_timeout_seconds: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    body_stall_seconds: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    keep_alive_seconds: int = Field(default=5, ge=1)
    drain_seconds: float = Field(default=8.0, ge=0, allow_inf_nan=False)
    log_format: LogFormat = "text"
    access_log: bool = False
    otel: bool = False
