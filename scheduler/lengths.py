"""How long prompts and answers are likely to be, learned from those that have ended."""

from collections import OrderedDict
from typing import Final

# English text in the tokenizers of current models; a guess that the first answers replace.
_PRIOR_BYTES_PER_TOKEN: Final = 4.0
# What the guess weighs: as much as one short prompt.
_PRIOR_PROMPT_TOKENS: Final = 100.0
# The mean of the Azure conversation trace of 2023 (Patel et al., Splitwise, ISCA 2024), until answers are seen.
_PRIOR_OUTPUT_TOKENS: Final = 211.0
# A mean over about so many requests.
_MOST_EVIDENCE: Final = 200.0
# More than any context holds: whoever tells of so many cannot be believed.
_MOST_TOKENS: Final = 10_000_000
# Before a tenant has shown as many answers, its mean leans on that of all.
_LEANING: Final = 5.0
# Tenants come and go; those not heard of for longest are forgotten.
_MOST_TENANTS: Final = 4096


class _Mean:
    __slots__ = ("evidence", "value")

    def __init__(self, value: float, evidence: float) -> None:
        self.value = value
        self.evidence = evidence

    def observe(self, value: float) -> None:
        self.evidence = min(_MOST_EVIDENCE, self.evidence + 1)
        self.value += (value - self.value) / self.evidence


class _TextRatio:
    """Bytes in a token: all over all, so that short prompts, which are mostly template, say little of long ones."""

    __slots__ = ("_size_bytes", "_tokens")

    def __init__(self) -> None:
        self._tokens = _Mean(_PRIOR_PROMPT_TOKENS, 1)
        self._size_bytes = _Mean(_PRIOR_PROMPT_TOKENS * _PRIOR_BYTES_PER_TOKEN, 1)

    @property
    def value(self) -> float:
        return self._size_bytes.value / self._tokens.value

    def observe(self, size_bytes: int, tokens: int) -> None:
        # Between single bytes and the longest words; whatever else is in the body is not text.
        self._tokens.observe(min(size_bytes / 0.25, max(size_bytes / 32.0, tokens)))
        self._size_bytes.observe(size_bytes)


class Lengths:
    """Means by model, and for answers by tenant too; O(1) to ask and to teach."""

    def __init__(self) -> None:
        self._bytes_per_token: dict[str, _TextRatio] = {}
        self._by_model: dict[str, _Mean] = {}
        self._by_tenant: OrderedDict[tuple[str, str], _Mean] = OrderedDict()

    def prompt_tokens(self, model: str, prompt_bytes: int) -> int:
        """What a text of so many bytes probably comes to; at least 1."""
        ratio = self._bytes_per_token.get(model)
        return max(1, round(prompt_bytes / (_PRIOR_BYTES_PER_TOKEN if ratio is None else ratio.value)))

    def output_tokens(self, model: str, tenant: str, max_output_tokens: int | None) -> float:
        """The mean answer's tokens, within the caller's own bound."""
        mean = self._by_tenant.get((model, tenant)) or self._by_model.get(model)
        expected = _PRIOR_OUTPUT_TOKENS if mean is None else mean.value
        return expected if max_output_tokens is None else max(0.0, min(expected, max_output_tokens))

    def ended(
        self, model: str, tenant: str, prompt_bytes: int, prompt_tokens: int | None, output_tokens: int | None
    ) -> None:
        """Learn from a request that has ended; None and nonsense teach nothing."""
        if prompt_tokens is not None and 0 < prompt_tokens <= _MOST_TOKENS and prompt_bytes > 0:
            self._bytes_per_token.setdefault(model, _TextRatio()).observe(prompt_bytes, prompt_tokens)
        if output_tokens is None or not 0 <= output_tokens <= _MOST_TOKENS:
            return
        of_model = self._by_model.setdefault(model, _Mean(_PRIOR_OUTPUT_TOKENS, 1))
        of_model.observe(output_tokens)
        key = model, tenant
        of_tenant = self._by_tenant.get(key)
        if of_tenant is None:
            of_tenant = self._by_tenant[key] = _Mean(of_model.value, _LEANING)
            if len(self._by_tenant) > _MOST_TENANTS:
                self._by_tenant.popitem(last=False)
        else:
            self._by_tenant.move_to_end(key)
        of_tenant.observe(output_tokens)
