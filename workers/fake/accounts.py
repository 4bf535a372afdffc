"""Energy of the fake engine: a two-level power model whose every microjoule belongs to exactly one account.

The counter is integrated from the clock and the model's watts; running requests share it equally. Knows the
clock and the watts only, nothing of tokens or HTTP.
"""

from collections.abc import Callable
from dataclasses import dataclass

# Milliwatts times nanoseconds are picojoules, so the integration stays in integers.
PICOJOULES_PER_MICROJOULE = 1_000_000
MILLIWATTS_PER_WATT = 1_000


@dataclass(slots=True, eq=False)
class RequestEnergy:
    """What one running request has used so far; changed by `EnergyAccounts` only."""

    started_at_nanoseconds: int
    counter_at_start_microjoules: int
    phase_start_microjoules: int
    decoding: bool = False
    prefill_microjoules: int = 0
    decode_microjoules: int = 0


@dataclass(frozen=True, slots=True)
class EnergyCharge:
    """The final energy of one request, and the device's own energy over the same time."""

    prefill_microjoules: int
    decode_microjoules: int
    device_microjoules: int
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class EnergySnapshot:
    """All accounts at one instant: the parts sum exactly to `counter_microjoules`."""

    counter_microjoules: int
    prefill_microjoules: int
    decode_microjoules: int
    idle_microjoules: int
    loading_microjoules: int
    unattributed_microjoules: int
    in_flight_prefill_microjoules: int
    in_flight_decode_microjoules: int
    power_watts: float


class EnergyAccounts:
    """Integrates the counter and shares it among the running requests.

    The shares are kept as one running integral per sharing request, so that each change costs O(1) however
    many requests run. Energy before `ready()` is `loading`, and drawn at the active watts.
    """

    def __init__(self, clock_nanoseconds: Callable[[], int], *, idle_watts: float, active_watts: float) -> None:
        self._clock_nanoseconds = clock_nanoseconds
        self._idle_milliwatts = round(idle_watts * MILLIWATTS_PER_WATT)
        self._active_milliwatts = round(active_watts * MILLIWATTS_PER_WATT)
        self._settled_at_nanoseconds = clock_nanoseconds()
        self._remainder_picojoules = 0
        self._counter_microjoules = 0
        self._integral_microjoules = 0
        self._unshared_microjoules = 0
        self._prefill_microjoules = 0
        self._decode_microjoules = 0
        self._idle_microjoules = 0
        self._loading_microjoules = 0
        self._loading = True
        self._running: set[RequestEnergy] = set()

    @property
    def running_requests(self) -> int:
        return len(self._running)

    def ready(self) -> None:
        """Ends the loading account."""
        self._settle()
        self._loading = False

    def begin(self) -> RequestEnergy:
        """Starts the prefill phase of a new request."""
        now = self._settle()
        request = RequestEnergy(now, self._counter_microjoules, self._integral_microjoules)
        self._running.add(request)
        return request

    def begin_decode(self, request: RequestEnergy) -> None:
        """Ends the request's prefill phase and starts its decode phase."""
        self._settle()
        request.prefill_microjoules = self._integral_microjoules - request.phase_start_microjoules
        request.phase_start_microjoules = self._integral_microjoules
        request.decoding = True

    def end(self, request: RequestEnergy) -> EnergyCharge:
        """Closes a request, finished or aborted, and books what it used."""
        now = self._settle()
        # The few microjoules that could not be divided evenly go to whoever leaves first.
        share = self._integral_microjoules - request.phase_start_microjoules + self._unshared_microjoules
        self._unshared_microjoules = 0
        if request.decoding:
            request.decode_microjoules = share
        else:
            request.prefill_microjoules = share
        self._running.remove(request)
        self._prefill_microjoules += request.prefill_microjoules
        self._decode_microjoules += request.decode_microjoules
        return EnergyCharge(
            request.prefill_microjoules,
            request.decode_microjoules,
            self._counter_microjoules - request.counter_at_start_microjoules,
            (now - request.started_at_nanoseconds) / 1e9,
        )

    def snapshot(self) -> EnergySnapshot:
        """Reads every account at this instant."""
        self._settle()
        prefill, decode = self._in_flight_microjoules()
        return EnergySnapshot(
            counter_microjoules=self._counter_microjoules,
            prefill_microjoules=self._prefill_microjoules,
            decode_microjoules=self._decode_microjoules,
            idle_microjoules=self._idle_microjoules,
            loading_microjoules=self._loading_microjoules,
            unattributed_microjoules=0,
            in_flight_prefill_microjoules=prefill,
            in_flight_decode_microjoules=decode,
            power_watts=self._power_milliwatts() / MILLIWATTS_PER_WATT,
        )

    def _in_flight_microjoules(self) -> tuple[int, int]:
        prefill = decode = 0
        for request in self._running:
            phase = self._integral_microjoules - request.phase_start_microjoules
            if request.decoding:
                prefill += request.prefill_microjoules
                decode += phase
            else:
                prefill += phase
        if any(request.decoding for request in self._running):
            return prefill, decode + self._unshared_microjoules
        return prefill + self._unshared_microjoules, decode

    def _power_milliwatts(self) -> int:
        return self._active_milliwatts if self._running or self._loading else self._idle_milliwatts

    def _settle(self) -> int:
        """Books the energy since the last change, and returns the present instant in nanoseconds."""
        now = self._clock_nanoseconds()
        picojoules = (now - self._settled_at_nanoseconds) * self._power_milliwatts()
        spent, self._remainder_picojoules = divmod(picojoules + self._remainder_picojoules, PICOJOULES_PER_MICROJOULE)
        self._settled_at_nanoseconds = now
        self._counter_microjoules += spent
        if self._running:
            share, self._unshared_microjoules = divmod(spent + self._unshared_microjoules, len(self._running))
            self._integral_microjoules += share
        elif self._loading:
            self._loading_microjoules += spent
        else:
            self._idle_microjoules += spent
        return now
