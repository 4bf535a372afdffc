"""The conserved quantity: where every microjoule of one component went.

Integers throughout. At every instant, exactly:

    prefill + decode + idle + loading + unattributed + in flight == assigned

where *assigned* follows the counter. The five accounts never fall. Energy is *in flight* from the moment it was spent
on a running engine until the request that owns it ends. No floats, no clock, no request identities here.
"""

from metering.shares import EngineShares

ACCOUNTS = ("prefill", "decode", "idle", "loading", "unattributed")


class ComponentLedger:
    """Accounts of one component (`gpu`, `cpu`, `dram`), and what the engines of this server have in flight of it."""

    def __init__(self, engines: int = 1) -> None:
        self.accounts = dict.fromkeys(ACCOUNTS, 0)
        self.engines = tuple(EngineShares(self.accounts) for _ in range(engines))
        self.assigned = 0

    def spend(self, account: str, energy: int) -> None:
        """Book energy that belongs to no request."""
        self.accounts[account] += energy
        self.assigned += energy

    def hand_out(self, engine: int, energy: int) -> None:
        """Give an engine energy spent in the step that it is in the middle of."""
        self.engines[engine].hold(energy)
        self.assigned += energy

    @property
    def in_flight_prefill(self) -> int:
        return sum(shares.in_flight_prefill for shares in self.engines)

    @property
    def in_flight_decode(self) -> int:
        """In flight in sequences that decode, and in steps of which it is not yet known what they did."""
        return sum(shares.in_flight_decode + shares.held for shares in self.engines)

    @property
    def in_flight(self) -> int:
        """Energy of requests that have not ended, so far."""
        return self.in_flight_prefill + self.in_flight_decode
