"""What the energy block of an answer says the request cost, as far as it can be believed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic_core import from_json

from metering.counter import MICROJOULES_PER_JOULE

# Farther than anything that can be counted, and what a float still holds.
_MOST: Final = 2**53

# What a column of the ledger holds.
_MOST_CHARACTERS: Final = 64
_MOST_REASON_CHARACTERS: Final = 256
_MOST_COMPONENTS: Final = 16


@dataclass(frozen=True, slots=True)
class Cost:
    """What the energy block of an answer says; None where it says nothing. Energy in integer microjoules.

    `reason` is why the energy is not known, where the worker says that it is not.
    """

    energy_microjoules: int | None = None
    prefill_microjoules: int | None = None
    decode_microjoules: int | None = None
    components_microjoules: Mapping[str, int] = field(default_factory=dict)
    source: str | None = None
    is_measured: bool | None = None
    reason: str | None = None
    uncertainty_ratio: float | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def energy_joules(self) -> float | None:
        return None if self.energy_microjoules is None else self.energy_microjoules / MICROJOULES_PER_JOULE


NO_COST: Final = Cost()
"""Of an answer without an energy block."""


def read_cost(block: bytes) -> Cost:
    """The cost that an energy block in JSON tells of; whatever makes no sense in it is as if it were not there."""
    try:
        told = from_json(block)  # a third of the time that `json` takes, for every answer
    except ValueError:
        return NO_COST
    if not isinstance(told, dict):
        return NO_COST
    measured = told.get("measured")
    return Cost(
        energy_microjoules=_microjoules(told.get("energy_joules")),
        prefill_microjoules=_microjoules(told.get("prefill_joules")),
        decode_microjoules=_microjoules(told.get("decode_joules")),
        components_microjoules=_components(told.get("components_joules")),
        source=_text(told.get("source"), _MOST_CHARACTERS),
        is_measured=measured if isinstance(measured, bool) else None,
        reason=_text(told.get("reason"), _MOST_REASON_CHARACTERS),
        uncertainty_ratio=_amount(told.get("uncertainty_ratio")),
        prompt_tokens=_count(told.get("prompt_tokens")),
        output_tokens=_count(told.get("output_tokens")),
    )


def _components(told: Any) -> Mapping[str, int]:  # noqa: ANN401  # a worker's JSON
    if not isinstance(told, dict) or len(told) > _MOST_COMPONENTS:
        return {}
    amounts = {name[:_MOST_CHARACTERS]: _microjoules(joules) for name, joules in told.items()}
    return {name: microjoules for name, microjoules in amounts.items() if microjoules is not None}


def _microjoules(joules: object) -> int | None:
    amount = _amount(joules)
    return None if amount is None or amount >= _MOST / MICROJOULES_PER_JOULE else round(amount * MICROJOULES_PER_JOULE)


def _amount(value: object) -> float | None:
    """A worker's word, as far as it is an amount: one NaN would spoil a total for good."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _MOST else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST else None


def _text(value: object, most: int) -> str | None:
    return value[:most].replace("\0", "") if isinstance(value, str) else None
