"""What the sequences of one engine owe of one component's energy, without a list of who they are.

Whole microjoules come in with steps and leave with sequences; what each sequence owes in between follows from running
sums, in parts of a microjoule so that nothing is rounded away. A sequence that decodes pays three differences between
its first and its last token:

- of the integral of equal shares, `each`;
- of the integral of energy per token of context, `context`, times the context it started with;
- of the same integral weighted by the tokens given out meanwhile, `context_growth`, for its context grew with them.

So an end costs the same work however long the sequence ran and however many ran beside it.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from metering.history import wrapped
from metering.step import EndedSequence, EngineStep
from metering.tail import FirstTokens, TailStep

PARTS: Final = 1024
"""Of a microjoule; 2**63 of them are 9 GJ, more than one request can owe."""


@dataclass(frozen=True, slots=True)
class StepPrice:
    """What taking part costs, as of one step, in parts of a microjoule.

    `each`, `context` and `context_growth` are the running sums named above. `per_prompt_token` and `per_prompt` are
    what the sequences whose first token came in this step owe for their prompts.
    """

    each: int
    context: int
    context_growth: int
    per_prompt_token: int
    per_prompt: int

    def as_tuple(self) -> tuple[int, int, int, int, int]:
        return self.each, self.context, self.context_growth, self.per_prompt_token, self.per_prompt


PRICE_COLUMNS: Final = 5
OWN_ROW_COLUMNS: Final = frozenset({3, 4})
"""Of the price, those that mean the step's own row only; the others are running sums."""


@dataclass(slots=True)
class _Chunk:
    """Prompt tokens computed in one step for sequences whose first token is still to come."""

    tokens: int
    sequences: int
    token_energy: int
    base_energy: int


class EngineShares:
    """One engine's part of a component's ledger, into whose accounts it books what is settled."""

    def __init__(self, accounts: dict[str, int]) -> None:
        self._accounts = accounts
        self.held = 0  # spent in the step that is running
        self.in_flight_prefill = 0
        self.in_flight_decode = 0
        self._each = self._context = self._context_growth = 0
        self._each_rest = self._context_rest = self._prompt_rest = 0  # what did not divide evenly; joins the next step
        self._prefill_part = self._decode_part = 0  # of a microjoule, charged and not yet booked
        self._chunks: deque[_Chunk] = deque()
        self._chunks_energy = 0
        self._recompute = 0  # energy of computing preempted sequences again
        self._preemptions = 0  # not yet paid for
        self._live = 0  # decoding sequences
        self._live_offset = 0  # sum of context length less tokens given out, at their first tokens
        self._live_base = 0  # sum of the running sums at their first tokens

    # -- steps ---------------------------------------------------------------------------------------------------

    def hold(self, energy: int) -> None:
        """Take energy of the step that is running."""
        self.held += energy

    def release(self) -> int:
        """Give the energy held to whoever knows what the step did."""
        energy, self.held = self.held, 0
        return energy

    def context_tokens(self, clock: int) -> int:
        """Length of all contexts being decoded; `clock` counts the tokens a sequence has been given."""
        return max(0, self._live_offset + self._live * clock)

    def spend_step(self, parts: Sequence[int], step: EngineStep, heads: int, clock: int) -> None:
        """Take in a step's energy, before its first tokens are announced.

        `parts` are microjoules in the order of `StepWeights`: prompts by head and by token, recomputation, decoding by
        head and by context. `heads` sequences computed prompt tokens in it; `clock` is that of the step.
        """
        by_head, by_token, recompute, each, context = parts
        self._preemptions += step.preemptions
        if step.prefill_tokens:
            self._chunks.append(_Chunk(step.prefill_tokens, heads, by_token, by_head))
            self._chunks_energy += by_token + by_head
            self.in_flight_prefill += by_token + by_head
        else:
            self._accounts["unattributed"] += by_token + by_head
        self._recompute += recompute
        self.in_flight_prefill += recompute
        if step.decode_sequences:
            self._spend_decode(each, context, step.decode_sequences, clock)
        else:
            self._accounts["unattributed"] += each + context

    @property
    def has_unfinished_prompts(self) -> bool:
        """Whether prompt tokens were computed whose sequences have no first token yet."""
        return bool(self._chunks)

    def complete_prefills(self, step: EngineStep, clock: int) -> StepPrice:
        """Price the prompts of the sequences that got their first token in the step just taken in, oldest first."""
        per_token = per_prompt = 0
        sequences, tokens = step.first_tokens, step.first_token_prompt_tokens
        if sequences and tokens:
            token_energy, base_energy = self._take_chunks(tokens, sequences)
            per_prompt, rest = divmod(base_energy * PARTS, sequences)
            per_token, self._prompt_rest = divmod(token_energy * PARTS + rest + self._prompt_rest, tokens)
        offset = max(step.first_token_context_tokens, tokens) - sequences * clock
        self._live += sequences
        self._live_offset += offset
        self._live_base += sequences * (self._each + self._context_growth) + offset * self._context
        return StepPrice(self._each, self._context, self._context_growth, per_token, per_prompt)

    def correct(self, wanted: int, step: TailStep, later: FirstTokens) -> tuple[int, StepPrice]:
        """Change the price of a past step by `wanted`, which may be below zero, for those who are still there to pay.

        `later` are the live sequences that got their first token in the step or after it, who were not decoding in it.
        Returns the microjoules that the books changed by, and what to add to the prices: the running sums' part to
        those of the step's row and of all later rows, the prompts' part to the step's row alone.
        """
        by_head, by_token, _, each, context = step.weights
        unit = wanted * PARTS / (sum(step.weights) or 1.0)  # what does not divide is not corrected but carried forward
        per_head = int(unit * each / step.sequences) if step.sequences else 0
        per_context = int(unit * context / step.context) if step.context else 0
        growth = per_context * step.clock
        owed = (self._live - later.sequences) * (per_head + growth)
        owed += (self._live_offset - later.offset) * per_context
        self._each += per_head
        self._context += per_context
        self._context_growth += growth
        self._live_base += later.sequences * (per_head + growth) + later.offset * per_context
        decode = max(-(-owed // PARTS), -self.in_flight_decode)
        self._each_rest += max(0, min(PARTS, decode * PARTS - owed))
        self.in_flight_decode += decode
        per_token = per_prompt = prefill = 0
        if step.own_prompts and step.prompt_tokens:
            per_token = int(unit * by_token / step.prompt_tokens)
            per_prompt = int(unit * by_head / step.prompts)
            due = per_token * step.first.tokens + per_prompt * step.first.sequences
            prefill = max(-(-due // PARTS), self._chunks_energy - self.in_flight_prefill)
            self._prompt_rest += max(0, min(PARTS, prefill * PARTS - due))
            self.in_flight_prefill += prefill
        return prefill + decode, StepPrice(per_head, per_context, growth, per_token, per_prompt)

    # -- ends ----------------------------------------------------------------------------------------------------

    def charge(self, first: StepPrice, first_clock: int, ended: EndedSequence, ratio: float = 1.0) -> tuple[int, int]:
        """End a sequence that has decoded since `first`: its prefill and decode energy, booked to the accounts.

        `first_clock` is the clock of that step. `ratio` is how much of the steps since then it took part in.
        """
        prompt, share = self._owed(first, first_clock, ended, ratio)
        offset = ended.prompt_tokens - first_clock
        if self._live:
            self._live -= 1
            self._live_offset -= offset
            self._live_base -= first.each + first.context_growth + offset * first.context
        if not self._live:  # the last to leave takes what did not divide evenly
            share += self._each_rest + self._context_rest
            prompt += 0 if self._chunks else self._prompt_rest
            self._each_rest = self._context_rest = 0
            self._prompt_rest = self._prompt_rest if self._chunks else 0
        prefill, self._prefill_part = divmod(prompt + self._prefill_part, PARTS)
        decode, self._decode_part = divmod(share + self._decode_part, PARTS)
        return self._book(prefill + self._recompute_of(ended.preemptions), decode)

    def owed(self, first: StepPrice, first_clock: int, ended: EndedSequence, ratio: float = 1.0) -> tuple[int, int]:
        """The prefill and decode energy that `charge` would book if the sequence ended now, but for what rounds."""
        prompt, share = self._owed(first, first_clock, ended, ratio)
        return prompt // PARTS + self._recompute_share(ended.preemptions), share // PARTS

    def abandon_prefills(self) -> int:
        """Take out the energy of prompt tokens whose sequences will never get a first token; it stays in flight."""
        energy, self._chunks_energy = self._chunks_energy, 0
        self._chunks.clear()
        return energy

    def charge_prefill(self, energy: int) -> int:
        """Book energy taken out by `abandon_prefills` to the request that was cut off."""
        return self._book(energy, 0)[0]

    def disown(self, energy: int) -> None:
        """Book energy taken out by `abandon_prefills` that nobody is known to own.

        After a preemption it is that of prompt tokens computed a second time.
        """
        if self._preemptions:
            self._recompute += energy
            return
        energy = min(energy, self.in_flight_prefill)
        self.in_flight_prefill -= energy
        self._accounts["unattributed"] += energy

    def settle(self) -> None:
        """No sequence is left in the engine: what is still in flight belongs to nobody."""
        self._accounts["unattributed"] += self.in_flight_prefill + self.in_flight_decode + self.release()
        self.in_flight_prefill = self.in_flight_decode = 0
        self._each_rest = self._context_rest = self._prompt_rest = self._prefill_part = self._decode_part = 0
        self._live = self._live_offset = self._live_base = self._recompute = self._preemptions = 0
        self.abandon_prefills()

    # -- inside --------------------------------------------------------------------------------------------------

    def _spend_decode(self, each: int, context: int, sequences: int, clock: int) -> None:
        tokens = self.context_tokens(clock)
        if self._live and self._live != sequences:  # some decode whom nobody pays for any more, or sit this one out
            tokens = tokens * sequences // self._live
        if not tokens:
            each, context = each + context, 0
        share, self._each_rest = divmod(each * PARTS + self._each_rest, sequences)
        self._each += share
        if tokens:
            price, self._context_rest = divmod(context * PARTS + self._context_rest, tokens)
            self._context += price
            self._context_growth += price * clock
        self.in_flight_decode += each + context
        self._release_unowned()

    def _release_unowned(self) -> None:
        """A sequence the engine still advances after its owner was answered (a stop string, say) owns nothing."""
        owed = wrapped(
            self._live * (self._each + self._context_growth) + self._live_offset * self._context - self._live_base
        )
        kept = max(0, owed) + self._each_rest + self._context_rest + self._decode_part
        unowned = min(self.in_flight_decode, (self.in_flight_decode * PARTS - kept) // PARTS)
        if unowned > 0:
            self.in_flight_decode -= unowned
            self._accounts["unattributed"] += unowned

    def _take_chunks(self, tokens: int, sequences: int) -> tuple[int, int]:
        """Energy of the oldest prompt tokens computed: of the tokens, and of the `sequences` that computed them."""
        token_energy = base_energy = 0
        while tokens and self._chunks:
            head = self._chunks[0]
            if head.tokens <= tokens:
                self._chunks.popleft()
                tokens -= head.tokens
                token_part, base_part = head.token_energy, head.base_energy
            else:
                # Others computed the rest of it: by head they have their places in this step, all but the last.
                leaving = min(sequences, head.sequences - 1)
                token_part = head.token_energy * tokens // head.tokens
                base_part = head.base_energy * leaving // head.sequences
                head.tokens -= tokens
                head.sequences -= leaving
                head.token_energy -= token_part
                head.base_energy -= base_part
                tokens = 0
            token_energy += token_part
            base_energy += base_part
        self._chunks_energy -= token_energy + base_energy
        return token_energy, base_energy

    def _owed(self, first: StepPrice, first_clock: int, ended: EndedSequence, ratio: float) -> tuple[int, int]:
        """For its prompt and for decoding, in parts of a microjoule."""
        prompt = first.per_prompt_token * ended.computed_prompt_tokens
        if ended.computed_prompt_tokens:
            prompt += first.per_prompt
        offset = ended.prompt_tokens - first_clock
        base = first.each + first.context_growth + offset * first.context
        share = max(0, wrapped(self._each + self._context_growth + offset * self._context - base))
        return prompt, int(share * ratio) if ratio < 1.0 else share

    def _recompute_share(self, preemptions: int) -> int:
        """What a sequence owes for having been computed again, by how often it was preempted."""
        if not preemptions or not self._preemptions:
            return 0
        return self._recompute * min(preemptions, self._preemptions) // self._preemptions

    def _recompute_of(self, preemptions: int) -> int:
        """Take out what a sequence pays for having been computed again."""
        energy = self._recompute_share(preemptions)
        self._preemptions -= min(preemptions, self._preemptions)
        self._recompute -= energy
        return energy

    def _book(self, prefill: int, decode: int) -> tuple[int, int]:
        prefill = max(0, min(prefill, self.in_flight_prefill - self._chunks_energy))
        decode = max(0, min(decode, self.in_flight_decode))
        self.in_flight_prefill -= prefill
        self.in_flight_decode -= decode
        self._accounts["prefill"] += prefill
        self._accounts["decode"] += decode
        return prefill, decode
