"""The same joules three times: as callers were told them, as the ledger kept them, and as Prometheus scraped them."""

import time
from dataclasses import dataclass
from typing import Final

from bench.prometheus_proof.callers import Told
from bench.prometheus_proof.prometheus import Prometheus
from bench.prometheus_proof.server import ScrapedServer

_MICROJOULES_PER_JOULE: Final = 1_000_000
_QUIET_SECONDS: Final = 20.0
_AT_REST: Final = (
    "sum(wattline_worker_running_requests) + sum(wattline_queue_requests) + sum(wattline_energy_in_flight_joules)"
)
_ANSWERED: Final = "sum(wattline_request_energy_joules_sum)"
_ALL: Final = "sum(wattline_tenant_energy_joules_total)"
_ACCOUNTS: Final = 'sum(wattline_energy_joules_total{account=~"prefill|decode"})'


@dataclass(frozen=True, slots=True)
class Agreement:
    """Joules of one set of requests by who tells them."""

    what: str
    joules: dict[str, float]

    @property
    def worst_ratio(self) -> float:
        """The largest difference between two of them, over the largest."""
        most, least = max(self.joules.values()), min(self.joules.values())
        return (most - least) / most if most else 1.0


def wait_for_rest(prometheus: Prometheus, accounts_before: float, interval_seconds: float) -> float:
    """Wait until Prometheus has seen that nothing runs and everything is charged; returns that instant in Unix time.

    After so many seconds it is what it is, and the comparison will tell.
    """
    deadline_seconds = time.monotonic() + _QUIET_SECONDS + 2 * interval_seconds
    while time.monotonic() < deadline_seconds:
        now_unix_seconds = time.time()
        running = prometheus.number(_AT_REST, now_unix_seconds)
        charged = prometheus.number(_ALL, now_unix_seconds)
        spent = accounts(prometheus, now_unix_seconds) - accounts_before
        if running == 0 and charged is not None and abs(charged - spent) < 1 / _MICROJOULES_PER_JOULE:
            return now_unix_seconds
        time.sleep(0.25)
    return time.time()


def accounts(prometheus: Prometheus, at_unix_seconds: float | None = None) -> float:
    """The joules of requests that the workers' accounts hold, in flight ones apart."""
    return prometheus.number(_ACCOUNTS, at_unix_seconds) or 0.0


def compared(
    prometheus: Prometheus, server: ScrapedServer, told: Told, accounts_before: float, at_unix_seconds: float
) -> list[Agreement]:
    """The answered requests, and all of them, those that their callers left included."""
    answered = server.get("/v1/energy/summary?outcome=completed")["total"]["energy_joules"]
    everything = server.get("/v1/energy/summary")["total"]["energy_joules"]
    return [
        Agreement(
            "answered requests",
            {
                "responses": told.microjoules / _MICROJOULES_PER_JOULE,
                "ledger": answered,
                "Prometheus": prometheus.number(_ANSWERED, at_unix_seconds) or 0.0,
            },
        ),
        Agreement(
            "all requests, those left by their callers included",
            {
                "ledger": everything,
                "Prometheus, tenants": prometheus.number(_ALL, at_unix_seconds) or 0.0,
                "Prometheus, accounts": accounts(prometheus, at_unix_seconds) - accounts_before,
            },
        ),
    ]
