"""A request's energy cap, `max_energy_joules`: how a caller gives it, and when generation has to end to keep it.

Pure: neither HTTP nor an engine here, so that the front end reads caps by the same rules as the engine's plugin.
"""

import math
import re
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

from metering.counter import MICROJOULES_PER_JOULE
from metering.errors import MeteringError

CAP_FIELD: Final = "max_energy_joules"
CAP_HEADER: Final = b"x-max-energy-joules"

_DECIMAL: Final = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$", re.ASCII)
_SHOWN_CHARACTERS: Final = 40
# The steps whose mean tells the cost of the next one: more are slower to see that the batch has changed, fewer take a
# correction of the books, which comes with every reading of the counter, for the cost of a step.
_PACE_STEPS: Final = 7
_TRIMMED_FROM: Final = 5


class EnergyCapError(MeteringError):
    """The caller gave a cap that is none; the message says what was expected. Nothing of the prompt is in it."""

    def __init__(self, given: str) -> None:
        super().__init__(f"{CAP_FIELD} must be a finite number of joules above 0, not {given}")


def parse_energy_cap(headers: Iterable[tuple[bytes, bytes]], fields: Mapping[str, Any] | None) -> float | None:
    """The cap that a request asks for, in joules: the smallest of those in its headers and its body; None for none.

    `headers` have lower-case names, as ASGI has them. `fields` is the JSON body, where there is one. A `null` is no
    cap, as for every optional field of OpenAI's API.

    Raises:
        EnergyCapError: a cap was given that is not a finite number above 0.
    """
    caps = [_from_header(value) for name, value in headers if name == CAP_HEADER]
    given = fields.get(CAP_FIELD) if fields is not None else None
    if given is not None:
        caps.append(_from_body(given))
    return min(caps, default=None)


def cap_fields(max_joules: float, *, reached: bool, not_kept_reason: str | None = None) -> dict[str, Any]:
    """What the energy block of a capped request says of its cap; `reached` is null where it could not be kept."""
    if not_kept_reason is None:
        return {CAP_FIELD: max_joules, "max_energy_reached": reached}
    return {CAP_FIELD: max_joules, "max_energy_reached": None, "max_energy_reason": not_kept_reason}


class EnergyCap:
    """Decides after each step whether a request must end for its energy to come out just below the cap.

    What has been started is paid: a sequence that is ended takes part in the steps already under way. So the request
    ends while those fit under the cap and one more would not, as near below the cap as steps allow. Where steps cost
    the same it is never exceeded; where they do not, by what those under way cost more than expected.
    """

    def __init__(self, max_joules: float) -> None:
        self.max_joules = max_joules
        self._max_microjoules = max_joules * MICROJOULES_PER_JOULE
        self._decode_before: int | None = None
        self._step_costs: deque[int] = deque(maxlen=_PACE_STEPS)

    def must_end(self, prefill_microjoules: int, decode_microjoules: int, steps_under_way: int) -> bool:
        """Whether to end now, given what the request has cost so far; to be asked once after each of its steps.

        `steps_under_way` are those that the engine has begun, or will begin before it can hear of the end.
        """
        if self._decode_before is not None:
            self._step_costs.append(decode_microjoules - self._decode_before)
        if prefill_microjoules or decode_microjoules:  # before its first token nothing is known to be a request's
            self._decode_before = decode_microjoules
        unavoidable = prefill_microjoules + decode_microjoules + (steps_under_way + 1) * self._next_step_microjoules()
        return unavoidable > self._max_microjoules

    def _next_step_microjoules(self) -> float:
        """What one more step is expected to cost: the mean of the latest, without the dearest and the cheapest."""
        costs = sorted(self._step_costs)
        if len(costs) >= _TRIMMED_FROM:
            costs = costs[1:-1]
        return max(0.0, sum(costs) / len(costs)) if costs else 0.0


def _from_header(value: bytes) -> float:
    text = value.decode("latin-1").strip()
    return _checked(float(text) if _DECIMAL.match(text) else math.nan, text)


def _from_body(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise EnergyCapError(_shown(given))
    try:
        return _checked(float(given), str(given))
    except (OverflowError, ValueError) as error:  # an integer beyond any float, or too long to print
        raise EnergyCapError("a number of hundreds of digits") from error


def _checked(joules: float, shown: str) -> float:
    if not (math.isfinite(joules) and joules > 0):
        raise EnergyCapError(shown[:_SHOWN_CHARACTERS] or "nothing")
    return joules


def _shown(given: object) -> str:
    names = {bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(given), type(given).__name__)
