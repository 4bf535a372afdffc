"""The conserved quantity: where every microjoule of one component went.

Integers throughout. At every instant, exactly:

    prefill + decode + idle + loading + unattributed + in flight == assigned

where *assigned* follows the counter. The five accounts never fall. Energy is *in flight* from the step that spent
it until the request that owns it ends. No floats, no clock, no request identities here.
"""

from collections import deque
from dataclasses import dataclass

ACCOUNTS = ("prefill", "decode", "idle", "loading", "unattributed")


@dataclass(frozen=True, slots=True)
class StepPrice:
    """What taking part in a step costs, in microjoules.

    `decode_integral` is the running sum over steps of one decoding sequence's share: a sequence owes the difference
    between its last and its first token. `prefill_per_token` is the price of each prompt token of the sequences
    whose prefill this step completed.
    """

    decode_integral: int
    prefill_per_token: int


class ComponentLedger:
    """Accounts of one component (`gpu`, `cpu`, `dram`), in integer microjoules."""

    def __init__(self) -> None:
        self.assigned = 0
        self.accounts = dict.fromkeys(ACCOUNTS, 0)
        self._decode_integral = 0
        self._decode_pool = 0  # shares of sequences that have not ended
        self._decode_carry = 0  # what did not divide evenly; joins the next step
        self._prefill_queue: deque[tuple[int, int]] = deque()  # (tokens, energy) computed, first token still to come
        self._prefill_pool = 0  # prompt energy of sequences that have not ended
        self._prefill_carry = 0
        self._live = 0  # decoding sequences
        self._live_base = 0  # sum of the integrals at their first tokens

    def spend(self, account: str, energy: int) -> None:
        """Book energy that belongs to no request."""
        self.accounts[account] += energy
        self.assigned += energy

    def spend_step(self, *, prefill: int, prefill_tokens: int, decode: int, decode_sequences: int) -> None:
        """Take in a step's energy, split into its phases, before its first tokens are announced."""
        self.assigned += prefill + decode
        if prefill_tokens:
            self._prefill_queue.append((prefill_tokens, prefill))
        else:
            self.accounts["unattributed"] += prefill
        if decode_sequences:
            share, self._decode_carry = divmod(decode + self._decode_carry, decode_sequences)
            self._decode_integral += share
            self._decode_pool += share * decode_sequences
            self._release_unowned_decode()
        else:
            self.accounts["unattributed"] += decode

    def complete_prefills(self, sequences: int, tokens: int) -> StepPrice:
        """Sequences got their first token in the step just taken in: price their prompt tokens, oldest first."""
        price = 0
        if tokens > 0:
            energy = self._take_prefill(tokens) + self._prefill_carry
            price, self._prefill_carry = divmod(energy, tokens)
            self._prefill_pool += price * tokens
        self._live += sequences
        self._live_base += sequences * self._decode_integral
        return StepPrice(self._decode_integral, price)

    def abandon_prefills(self) -> int:
        """Take out the energy of prompt tokens whose sequences will never get a first token."""
        energy = sum(energy for _, energy in self._prefill_queue)
        self._prefill_queue.clear()
        self._prefill_pool += energy
        return energy

    def charge(self, first: StepPrice, prompt_tokens: int) -> tuple[int, int]:
        """End a sequence that has decoded since `first`: its prefill and decode energy, booked to the accounts."""
        prefill = min(first.prefill_per_token * prompt_tokens, self._prefill_pool)
        decode = min(self._decode_integral - first.decode_integral, self._decode_pool)
        if self._live:
            self._live -= 1
            self._live_base -= first.decode_integral
        self._book(prefill, decode)
        return prefill, decode

    def charge_prefill(self, energy: int) -> int:
        """Book energy taken out by `abandon_prefills` to the request that was cut off."""
        energy = min(energy, self._prefill_pool)
        self._book(energy, 0)
        return energy

    def disown(self, energy: int) -> None:
        """Book energy taken out by `abandon_prefills` that nobody can own."""
        energy = min(energy, self._prefill_pool)
        self._prefill_pool -= energy
        self.accounts["unattributed"] += energy

    def settle(self) -> None:
        """No sequence is left in the engine: what is still in flight belongs to nobody."""
        self.abandon_prefills()
        self.accounts["unattributed"] += self.in_flight
        self._prefill_pool = self._prefill_carry = self._decode_pool = self._decode_carry = 0
        self._live = self._live_base = 0

    @property
    def in_flight_prefill(self) -> int:
        return self._prefill_pool + self._prefill_carry + sum(energy for _, energy in self._prefill_queue)

    @property
    def in_flight_decode(self) -> int:
        return self._decode_pool + self._decode_carry

    @property
    def in_flight(self) -> int:
        """Energy of requests that have not ended, so far."""
        return self.in_flight_prefill + self.in_flight_decode

    @property
    def decode_integral(self) -> int:
        return self._decode_integral

    def _book(self, prefill: int, decode: int) -> None:
        self._prefill_pool -= prefill
        self._decode_pool -= decode
        self.accounts["prefill"] += prefill
        self.accounts["decode"] += decode

    def _take_prefill(self, tokens: int) -> int:
        taken = 0
        while tokens and self._prefill_queue:
            head_tokens, head_energy = self._prefill_queue[0]
            if head_tokens <= tokens:
                self._prefill_queue.popleft()
                taken += head_energy
                tokens -= head_tokens
            else:
                part = head_energy * tokens // head_tokens
                self._prefill_queue[0] = (head_tokens - tokens, head_energy - part)
                return taken + part
        return taken

    def _release_unowned_decode(self) -> None:
        """A sequence the engine still advances after its owner was answered (a stop string, say) owns nothing."""
        owed = self._live * self._decode_integral - self._live_base
        unowned = self._decode_pool - owed
        if unowned > 0:
            self._decode_pool -= unowned
            self.accounts["unattributed"] += unowned
