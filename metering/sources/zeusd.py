"""CPU packages and their memory through zeusd, the zeus library's daemon: for hosts where only root may read RAPL.

The daemon reads the RAPL tree on its own host, also through the register's wrap-around, and gives microjoules. GPUs are
not read through it: NVML needs no privilege, and the daemon numbers GPUs in a way that a container cannot map.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metering.counter import CounterInfo, EnergyReading
from metering.errors import CounterReadError, SourceUnavailableError
from metering.sources.opened import OpenedSource
from metering.sources.zeus import load_zeus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

SOCKET_KEY = "ZEUSD_SOCK_PATH"
HOST_KEY = "ZEUSD_HOST_PORT"
TOKEN_KEY = "ZEUSD_TOKEN"  # noqa: S105  # the variable's name
START = f"sudo zeusd serve --enable cpu-read, and set {SOCKET_KEY}=/run/zeusd/zeusd.sock"
UPDATE_PERIOD_SECONDS = 0.001
"""RAPL's own: the daemon reads when it is asked."""
ONE_LOOK_SECONDS = 0.01
"""Counters read one after the other within this time share one answer; asking costs a third of a millisecond."""
TOPOLOGY = Path("/sys/devices/system/cpu")


class ZeusdHost:
    """What the daemon answers, asked once for all counters that are read together. One caller at a time."""

    def __init__(self, client: Any, clock: Callable[[], float]) -> None:  # noqa: ANN401  zeus has no types for us
        self._client = client
        self._clock = clock
        self._at_seconds = float("-inf")
        self._energies: dict[int, Any] = {}
        self._served: set[int] = set()
        self._users = 0

    def share(self) -> ZeusdHost:
        self._users += 1
        return self

    def close(self) -> None:
        self._users -= 1
        if self._users == 0:
            self._client._client.close()  # noqa: SLF001  the library offers no other way to close its connection

    def read(self, reader: int) -> tuple[float, dict[int, Any]]:
        """Give the instant and the energies of every package; never the same answer twice to the same `reader`."""
        if reader in self._served or self._clock() - self._at_seconds > ONE_LOOK_SECONDS:
            at_seconds = self._clock()
            self._energies = self._client.get_cpu_energy()
            self._at_seconds = at_seconds
            self._served.clear()
        self._served.add(reader)
        return self._at_seconds, self._energies


class ZeusdCounter:
    """One package, or its memory, as the daemon counts it; it restarts with the daemon, and is passed on as it is."""

    def __init__(self, info: CounterInfo, host: ZeusdHost, package: int, field: str) -> None:
        """`field` is the name of the energy in the daemon's answer."""
        self.info = info
        self._host: ZeusdHost | None = host.share()
        self._package = package
        self._field = field

    def read(self) -> EnergyReading:
        if self._host is None:
            message = "this zeusd counter was closed"
            raise CounterReadError(message)
        try:
            at_seconds, energies = self._host.read(id(self))
            energy_microjoules = int(getattr(energies[self._package], self._field))
        except Exception as problem:  # no connection, no permission, no such package, or an answer of another form
            message = f"reading the energy of {self.info.device} failed: {problem!r}"
            raise CounterReadError(message) from problem
        return EnergyReading(at_seconds, energy_microjoules)

    def close(self) -> None:
        host, self._host = self._host, None
        if host is not None:
            host.close()


def open_zeusd_counters(
    clock: Callable[[], float], environ: Mapping[str, str], topology: Path = TOPOLOGY
) -> OpenedSource:
    """Open every package the daemon of this host shows, and their memory where it is counted.

    Raises:
        SourceUnavailableError: no daemon is named or answers, it is another host's, it may not be asked, or it shows
            more than this machine's packages.
    """
    endpoint = environ.get(SOCKET_KEY) or environ.get(HOST_KEY)
    if not endpoint:
        raise SourceUnavailableError(f"{SOCKET_KEY} is not set", (START,))
    library = load_zeus("zeus.utils.zeusd", "zeusd")
    client = _connect(library, environ, endpoint)
    try:
        library.require_capabilities(client, read_cpu=True)
        packages = list(client.cpus)
        _refuse_strangers(packages, topology, endpoint)
        counters = _counters(ZeusdHost(client, clock), packages)
        for counter in counters:
            counter.read()
    except Exception as problem:
        client._client.close()  # noqa: SLF001  see above
        if isinstance(problem, SourceUnavailableError):
            raise
        raise SourceUnavailableError(f"zeusd at {endpoint} cannot be used: {problem}") from problem
    return OpenedSource(tuple(counters))


def _connect(library: ModuleType, environ: Mapping[str, str], endpoint: str) -> Any:  # noqa: ANN401
    token = environ.get(TOKEN_KEY)
    if environ.get(SOCKET_KEY):
        _knock(endpoint)
        config = library.ZeusdConfig.uds(socket_path=endpoint, token=token)
    elif _is_this_host(endpoint):
        config = library.ZeusdConfig(host_port=endpoint, token=token)
    else:
        reason = f"{HOST_KEY} is {endpoint!r}, which may be another machine's zeusd"
        raise SourceUnavailableError(reason, (f"set {SOCKET_KEY} to the socket of this machine's",))
    try:
        return library.ZeusdClient(config)
    except Exception as problem:  # nobody there, or an answer that is none of zeusd's
        raise _no_answer(endpoint, problem) from problem


def _knock(path: str) -> None:
    """See that somebody listens, and that this user may speak to them: the library tells neither plainly."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.connect(path)
    except OSError as problem:
        raise _no_answer(path, problem) from problem


def _no_answer(endpoint: str, problem: Exception) -> SourceUnavailableError:
    return SourceUnavailableError(
        f"zeusd at {endpoint} does not answer: {problem}",
        (START, "let this user open its socket (zeusd's --socket-permissions, --socket-gid)"),
    )


def _is_this_host(endpoint: str) -> bool:
    host = endpoint.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse_strangers(packages: list[Any], topology: Path, endpoint: str) -> None:
    """See that each zone is a package: the daemon gives no names, and also shows `psys`, which contains a package."""
    if not packages:
        raise SourceUnavailableError(f"zeusd at {endpoint} shows no CPU package")
    known = _package_counts(topology)
    if known and len(packages) not in known:
        raise SourceUnavailableError(
            f"zeusd at {endpoint} shows {len(packages)} CPU zone(s) where this machine has {max(known)}, so that some "
            "energy would be counted twice, or is another machine's",
            ("make the RAPL tree readable, whose zones have names, and set --meter rapl",),
        )


def _package_counts(topology: Path) -> set[int]:
    """How many zones there may be: one for each package, or for each die of one; nothing where it cannot be known."""
    packages: set[str] = set()
    dies: set[tuple[str, str]] = set()
    for cpu in topology.glob("cpu[0-9]*") if topology.is_dir() else ():
        try:
            package = (cpu / "topology" / "physical_package_id").read_text().strip()
            die = (cpu / "topology" / "die_id").read_text().strip()
        except OSError:  # a CPU that is switched off
            continue
        if re.fullmatch(r"\d+", package):
            packages.add(package)
            dies.add((package, die))
    return {len(packages), len(dies)} - {0}


def _counters(host: ZeusdHost, packages: list[Any]) -> list[ZeusdCounter]:
    cpus = [ZeusdCounter(_info("cpu", package.id), host, package.id, "cpu_energy_uj") for package in packages]
    memory = [
        ZeusdCounter(_info("dram", package.id), host, package.id, "dram_energy_uj")
        for package in packages
        if package.dram_available
    ]
    return [*cpus, *memory]


def _info(component: str, package: int) -> CounterInfo:
    what = "the memory of CPU package" if component == "dram" else "CPU package"
    return CounterInfo(
        device=f"zeusd:{component}-{package}",
        component=component,
        source="zeusd",
        measured=True,
        update_period_seconds=UPDATE_PERIOD_SECONDS,
        uncertainty_ratio=None,
        description=f"{what} {package}, whoever uses it: RAPL, read by zeusd",
    )
