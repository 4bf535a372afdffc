"""What the operator is told at the terminal of the server's life: starting, ready, stopping, summed up.

Where logs are for machines the same sentences go to the log, so that every line of output is one JSON object.
"""

import contextlib
import ipaddress
import logging
import socket
import sys
from collections.abc import Sequence

from server.composition import ServerParts
from server.logs import LogFormat
from server.served_models import ServedModel

logger = logging.getLogger("wattline.server")


class Console:
    """Says one sentence at a time."""

    def __init__(self, log_format: LogFormat) -> None:
        self._log_format = log_format

    def say(self, text: str) -> None:
        if self._log_format == "json":
            logger.info(text)
            return
        with contextlib.suppress(OSError):  # whoever read our output may be gone; the callers are not
            sys.stderr.write(f"wattline: {text}\n")
            sys.stderr.flush()

    def warn(self, text: str) -> None:
        if self._log_format == "json":
            logger.warning(text)
        else:
            self.say(f"WARNING: {text}")


def address_of(listener: socket.socket, *, tls: bool) -> str:
    """The URL callers use, as far as we can know."""
    scheme = "https" if tls else "http"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def say_starting(console: Console, models: Sequence[ServedModel], address: str) -> None:
    """What is started, or attached to."""
    attached = sum(len(model.worker_ids) for model in models if model.is_attached)
    if attached:
        console.say(f"attaching to {attached} running server(s), listening on {address}")
    for model in models:
        if not model.is_attached:
            console.say(f"starting {len(model.worker_ids)} vLLM engine(s) on {model.device} with {model.names[0]}")


def say_who_may_ask(console: Console, parts: ServerParts, listener: socket.socket) -> None:
    """Whether callers need a key, and what it means where they do not."""
    host = listener.getsockname()[0]
    if parts.gate.has_keys:
        console.say("callers need a key (wattline keys list)")
    elif not ipaddress.ip_address(host).is_loopback:
        console.warn(f"{host} can be reached from other machines, and there are no keys: anyone may send requests")


def say_summary(console: Console, parts: ServerParts, seconds: float) -> None:
    """What has been served, and what it took."""
    requests = tokens = 0.0
    for family in parts.metrics.registry.collect():
        for sample in family.samples:
            if sample.name == "wattline_requests_total":
                requests += sample.value
            elif sample.name == "wattline_tokens_total" and sample.labels["kind"] == "output":
                tokens += sample.value
    microjoules: dict[str, int] = {}
    for member in parts.roster.members():
        for (_, account), energy in member.energy.totals():
            microjoules[account] = microjoules.get(account, 0) + energy
    used = (microjoules.get("prefill", 0) + microjoules.get("decode", 0)) / 1e6
    rest = ", ".join(f"{name} {microjoules.get(name, 0) / 1e6:.1f} J" for name in ("idle", "loading", "unattributed"))
    per_token = f" ({used / tokens:.3f} J per output token)" if tokens else ""
    console.say(
        f"stopped after {seconds:.0f} s: {requests:.0f} requests, {tokens:.0f} output tokens, "
        f"requests {used:.1f} J{per_token}, {rest}"
    )
