"""One engine's books: its steps in, what each of its sequences owes out. Knows sequences, not requests.

A sequence is known by the step in which it got its first token (a row of the history) and by what it says of itself
when it ends.
"""

from collections.abc import Sequence

from metering.apportionment import apportion
from metering.charges import Charges
from metering.counter import MICROJOULES_PER_JOULE
from metering.history import StepHistory
from metering.ledger import ComponentLedger
from metering.shares import PRICE_COLUMNS, StepPrice
from metering.step import EndedSequence, EngineStep
from metering.step_cost import StepCostModel


class EngineBooks:
    """Turns the energy held by one engine's shares into prices, and prices into charges."""

    def __init__(self, engine: int, ledgers: Sequence[ComponentLedger], cost: StepCostModel) -> None:
        self._shares = [ledger.engines[engine] for ledger in ledgers]
        self._cost = cost
        self._history = StepHistory(1 + PRICE_COLUMNS * len(ledgers))
        self._remembered_at_seconds: float | None = None
        self._clock = 0  # tokens given out to a sequence that has decoded in every step
        self._clock_part = 0.0
        self.is_busy = False
        self.prefill_seen = False  # in the latest step

    @property
    def last_row(self) -> int:
        """Row of the latest step, -1 before the first."""
        return self._history.last_index

    def first_row_of(self, ended: EndedSequence) -> int:
        """The row in which a sequence of the latest step got its first token."""
        return self._history.index_before_last(ended.decode_seconds)

    def forget_before(self, row: int) -> None:
        """Rows before `row` will not be asked for again."""
        self._history.forget_before(row)

    def take_in(self, step: EngineStep) -> None:
        """Price a step with the energy that the shares hold."""
        if step.decode_sequences:
            self._turn_clock(step)
        heads = max(1, step.prefill_sequences, step.first_tokens) if step.prefill_tokens else 0
        context = self._shares[0].context_tokens(self._clock) if step.decode_sequences else 0
        computed = step.prefill_tokens + step.recomputed_tokens
        weights = self._cost.weights(
            step.prefill_tokens, heads, step.recomputed_tokens, step.decode_sequences, context
        ).as_tuple()
        row = [self._clock]
        spent = 0
        for shares in self._shares:
            energy = shares.release()
            spent += energy
            shares.spend_step(apportion(energy, weights), step, heads, self._clock)
            row += shares.complete_prefills(step, self._clock).as_tuple()
        self._cost.learn(computed, step.decode_sequences, context, spent / MICROJOULES_PER_JOULE)
        self._remember(step, row)
        self.prefill_seen = step.prefill_tokens > 0
        self.is_busy = step.unfinished_sequences > 0

    def charge(self, first_row: int, ended: EndedSequence) -> Charges:
        """End a sequence: what it owes is booked to the accounts."""
        first_clock, *prices = self._history.row(first_row)
        ratio = self._participation(first_clock, ended)
        charges = Charges([], [], ended.prompt_tokens, ended.output_tokens, sequences=1)
        for index, shares in enumerate(self._shares):
            price = StepPrice(*prices[PRICE_COLUMNS * index : PRICE_COLUMNS * (index + 1)])
            prefill, decode = shares.charge(price, first_clock, ended, ratio)
            charges.prefill.append(prefill)
            charges.decode.append(decode)
        return charges

    def charge_abandoned_prefill(self, charges: Charges) -> None:
        """Add the energy of all prompt tokens whose sequences have no first token yet."""
        for index, shares in enumerate(self._shares):
            charges.prefill[index] += shares.charge_prefill(shares.abandon_prefills())

    def disown_prefills(self) -> None:
        """No sequence is computing its prompt: what was computed for one that left unseen is nobody's."""
        for shares in self._shares:
            shares.disown(shares.abandon_prefills())

    def settle(self) -> None:
        """No sequence is left in the engine."""
        self.is_busy = self.prefill_seen = False
        for shares in self._shares:
            shares.settle()

    # -- inside --------------------------------------------------------------------------------------------------

    def _turn_clock(self, step: EngineStep) -> None:
        """One token each, or what speculation made of it; sequences cut off take part and give none."""
        tokens = step.decode_tokens or 0
        self._clock_part += max(1.0, tokens / step.decode_sequences)
        whole = int(self._clock_part)
        self._clock += whole
        self._clock_part -= whole

    def _participation(self, first_clock: int, ended: EndedSequence) -> float:
        """How much of the steps since its first token a sequence took part in: all, unless it was preempted."""
        passed = self._clock - first_clock
        if not ended.preemptions or passed <= 0:
            return 1.0
        return min(1.0, max(0, ended.output_tokens - 1) / passed)

    def _remember(self, step: EngineStep, row: list[int]) -> None:
        """Keep the step's prices if a first token can lie in it, as it cannot in a step that gave no token.

        Times between tokens then lead from one row kept to the next, and not past those of bare prompt chunks.
        """
        if step.inter_token_seconds is None and not step.first_tokens:
            return
        elapsed = step.inter_token_seconds
        if elapsed is None:
            elapsed = max(0.0, step.ended_at_seconds - (self._remembered_at_seconds or step.ended_at_seconds))
        self._history.append(elapsed, row)
        self._remembered_at_seconds = step.ended_at_seconds
