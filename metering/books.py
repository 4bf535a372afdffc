"""One engine's books: its steps in, what each of its sequences owes out. Knows sequences, not requests.

A sequence is known by the step in which it got its first token (a row of the history) and by what it says of itself
when it ends.
"""

from collections.abc import Sequence

from metering.apportionment import apportion
from metering.charges import Charges
from metering.cost_window import CostWindow
from metering.history import StepHistory
from metering.ledger import ComponentLedger
from metering.shares import OWN_ROW_COLUMNS, PRICE_COLUMNS, StepPrice
from metering.step import EndedSequence, EngineStep
from metering.step_cost import StepCostModel
from metering.supply import EnergySupply
from metering.tail import FirstTokens, Tail, TailStep


class EngineBooks:
    """Turns the energy held by one engine's shares into prices, and prices into charges."""

    def __init__(
        self, engine: int, ledgers: Sequence[ComponentLedger], supply: EnergySupply, cost: StepCostModel
    ) -> None:
        self._engine = engine
        self._ledgers = tuple(ledgers)
        self._supply = supply
        self._tail = Tail()
        self._shares = [ledger.engines[engine] for ledger in ledgers]
        self._cost = cost
        self._window = CostWindow(cost)
        self._history = StepHistory(1 + PRICE_COLUMNS * len(ledgers))
        self._remembered_at_seconds: float | None = None
        self._clock = 0  # tokens given out to a sequence that has decoded in every step
        self._clock_part = 0.0
        self.is_busy = False
        self.prefill_seen = False  # in the latest step
        self.prompts_may_wait = False  # the latest step left some out, who may have computed part of their prompts

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
        """Price a step with the energy that the shares hold, and the steps before it anew where more is known now."""
        self._true_up()
        if step.decode_sequences:
            self._turn_clock(step)
        heads = max(1, step.prefill_sequences, step.first_tokens) if step.prefill_tokens else 0
        context = self._shares[0].context_tokens(self._clock) if step.decode_sequences else 0
        computed = step.prefill_tokens + step.recomputed_tokens
        weights = self._cost.weights(
            step.prefill_tokens, heads, step.recomputed_tokens, step.decode_sequences, context
        ).as_tuple()
        row = [self._clock]
        own_prompts = not self._shares[0].has_unfinished_prompts
        for shares in self._shares:
            shares.spend_step(apportion(shares.release(), weights), step, heads, self._clock)
            row += shares.complete_prefills(step, self._clock).as_tuple()
        own_prompts = own_prompts and not self._shares[0].has_unfinished_prompts
        is_kept = self._remember(step, row)
        prompts = max(step.first_token_context_tokens, step.first_token_prompt_tokens)
        self._tail.append(
            TailStep(
                row=self.last_row if is_kept else self.last_row + 1,
                draws=self._supply.draws_of(self._engine),
                weights=weights,
                computed_tokens=computed,
                sequences=step.decode_sequences,
                context=context,
                clock=self._clock,
                prompt_tokens=step.first_token_prompt_tokens,
                prompts=step.first_tokens,
                own_prompts=own_prompts,
                first=FirstTokens(
                    step.first_tokens, prompts - step.first_tokens * self._clock, step.first_token_prompt_tokens
                ),
            )
        )
        self.prefill_seen = step.prefill_tokens > 0
        self.prompts_may_wait = step.unfinished_sequences > step.decode_sequences + step.first_tokens
        self.is_busy = step.unfinished_sequences > 0

    def charge(self, first_row: int, ended: EndedSequence) -> Charges:
        """End a sequence: what it owes is booked to the accounts."""
        first_clock, *prices = self._history.row(first_row)
        ratio = self._participation(first_clock, ended)
        self._tail.forget(first_row, ended.prompt_tokens - first_clock, ended.computed_prompt_tokens)
        charges = Charges([], [], ended.prompt_tokens, ended.output_tokens, sequences=1)
        charges.engines.add(self._engine)
        charges.is_whole = first_row < 0 or self._history.keeps(first_row)
        for index, shares in enumerate(self._shares):
            price = StepPrice(*prices[PRICE_COLUMNS * index : PRICE_COLUMNS * (index + 1)])
            prefill, decode = shares.charge(price, first_clock, ended, ratio)
            charges.prefill.append(prefill)
            charges.decode.append(decode)
        return charges

    def owed(self, first_row: int, ended: EndedSequence) -> tuple[int, int]:
        """What `charge` would book, over all components, if the sequence ended now: prefill and decode."""
        first_clock, *prices = self._history.row(first_row)
        ratio = self._participation(first_clock, ended)
        prefill = decode = 0
        for index, shares in enumerate(self._shares):
            price = StepPrice(*prices[PRICE_COLUMNS * index : PRICE_COLUMNS * (index + 1)])
            prompt, share = shares.owed(price, first_clock, ended, ratio)
            prefill += prompt
            decode += share
        return prefill, decode

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
        self.is_busy = self.prefill_seen = self.prompts_may_wait = False
        self._supply.draws_of(self._engine)
        self._tail.clear()
        self._window.clear()
        for shares in self._shares:
            shares.settle()

    # -- inside --------------------------------------------------------------------------------------------------

    def _true_up(self) -> None:
        """Correct the prices of the steps whose energy has become final, for the sequences that are still there."""
        rises: dict[int, list[int]] = {}
        for step, later in self._tail.pop_final():
            rise = rises.setdefault(step.row, [0] * (PRICE_COLUMNS * len(self._shares)))
            spent = 0
            for index, (shares, ledger) in enumerate(zip(self._shares, self._ledgers, strict=True)):
                draws = [draw for draw in step.draws if draw.feed.ledger is ledger]
                dues = [draw.correction_microjoules() or 0 for draw in draws]
                wanted = sum(dues)
                spent += wanted + sum(draw.microjoules for draw in draws)
                made = 0
                if wanted:
                    made, price = shares.correct(wanted, step, later)
                    for column, amount in enumerate(price.as_tuple(), PRICE_COLUMNS * index):
                        rise[column] += amount
                self._supply.correct(draws, dues, made)
            self._learn(step, spent)
        if rises:
            self._raise_rows(rises)

    def _raise_rows(self, rises: dict[int, list[int]]) -> None:
        """Add to the prices of past rows: a step's running sums stand in its own row and in all that follow."""
        for column in range(PRICE_COLUMNS * len(self._shares)):
            if column % PRICE_COLUMNS in OWN_ROW_COLUMNS:
                for row, rise in rises.items():
                    self._history.add(row, 1 + column, [rise[column]])
                continue
            total, running = 0, []
            if not any(rise[column] for rise in rises.values()):
                continue
            first = min(rises)
            for row in range(first, self.last_row + 1):
                if (own := rises.get(row)) is not None:
                    total += own[column]
                running.append(total)
            self._history.add(first, 1 + column, running)

    def _learn(self, step: TailStep, spent_microjoules: int) -> None:
        seconds = max((draw.seconds for draw in step.draws), default=0.0)
        self._window.add(step.computed_tokens, step.sequences, step.context, seconds, spent_microjoules)

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

    def _remember(self, step: EngineStep, row: list[int]) -> bool:
        """Keep the step's prices if a first token can lie in it, as it cannot in a step that gave no token.

        Returns whether they were kept. Times between tokens then lead from one row kept to the next, and not past those
        of bare prompt chunks.
        """
        if step.inter_token_seconds is None and not step.first_tokens:
            return False
        elapsed = step.inter_token_seconds
        if elapsed is None:
            elapsed = max(0.0, step.ended_at_seconds - (self._remembered_at_seconds or step.ended_at_seconds))
        self._history.append(elapsed, row)
        self._remembered_at_seconds = step.ended_at_seconds
        return True
