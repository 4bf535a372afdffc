"""What one overhead benchmark is to measure."""

import sys
from dataclasses import dataclass, field
from typing import Final, Literal

MODEL: Final = "fake"
_MARGIN_SECONDS: Final = 1.0  # so that no stream ends while the gaps within streams are measured


def default_front_end_command() -> list[str]:
    """The front end's command line; `{worker_url}`, `{port}` and `{config}` are filled in when it is started."""
    serve = [sys.executable, "-m", "server", "serve", "--config", "{config}"]
    return [*serve, "--worker-url", "{worker_url}", "--port", "{port}"]


@dataclass(frozen=True, slots=True)
class HeldStreamSettings:
    """Many streams at once, each as slow as a busy engine's.

    Ten tokens a second each is slow for a reader and fast for a batch of a thousand; what matters here is how many
    tokens pass in a second, all streams together. The streams open evenly over `ramp_seconds`.
    """

    streams: int = 0
    seconds: float = 120.0
    tokens_per_second: float = 10.0
    ramp_seconds: float = 10.0

    @property
    def max_tokens(self) -> int:
        """Of each stream: those opened first last until all have been held for `seconds`, and a little longer."""
        return max(round((self.ramp_seconds + self.seconds + _MARGIN_SECONDS) * self.tokens_per_second), 1)


@dataclass(frozen=True, slots=True)
class OverheadSettings:
    """One overhead benchmark. `memory_requests` are the two request counts at which memory is read."""

    front_end_command: list[str] = field(default_factory=default_front_end_command)
    front_end_args: tuple[str, ...] = ()
    engine_socket: Literal["tcp", "unix"] = "tcp"
    peers: tuple[str, ...] = ()
    bare: bool = False
    rounds: int = 3
    seconds: float = 3.0
    connections: int = 16
    stream_max_tokens: int = 256
    memory_requests: tuple[int, int] = (2_000, 20_000)
    front_end_start_seconds: float = 60.0
    held: HeldStreamSettings = HeldStreamSettings()
