"""zeusd for tests: a server on a unix socket that answers as the daemon does, below the real zeus library.

The routes and their answers are those of zeusd 0.5 (https://github.com/ml-energy/zeus, folder zeusd/src/routes): only
what is asked here.
"""

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit


class ZeusdStandIn:
    """A daemon whose packages, counters and manners a test sets while it runs."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "zeusd.sock"
        self.energies: dict[int, tuple[int | None, int | None]] = {0: (5_000_000, 1_000_000)}
        """Of each package the microjoules of the processor and of its memory, None where it is not counted."""
        self.enabled_api_groups = ["gpu-read", "cpu-read"]
        self.auth_required = False
        self.status = 200
        """What it answers when it is asked for energy."""
        self.requests: list[str] = []
        self._server = _Server(str(self.socket), _Handler, daemon=self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop answering; harmless when it has."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self.socket.unlink(missing_ok=True)

    def answer(self, path: str) -> tuple[int, Any]:
        self.requests.append(path)
        match urlsplit(path).path:
            case "/discover":
                return 200, {
                    "gpus": [],
                    "cpus": [
                        {"id": package, "dram_available": dram is not None}
                        for package, (_, dram) in self.energies.items()
                    ],
                    "enabled_api_groups": self.enabled_api_groups,
                    "auth_required": self.auth_required,
                }
            case "/cpu/get_cumulative_energy" if self.status == 200:
                return 200, {
                    str(package): {"cpu_energy_uj": cpu, "dram_energy_uj": dram}
                    for package, (cpu, dram) in self.energies.items()
                }
            case "/cpu/get_cumulative_energy":
                return self.status, "told to fail"
            case _:
                return 404, "no such route"


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, path: str, handler: type[BaseHTTPRequestHandler], daemon: ZeusdStandIn) -> None:
        self.daemon = daemon
        super().__init__(path, handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        status, answer = self.server.daemon.answer(self.path)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a unix socket"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name http.server gives it
        """Say nothing."""
