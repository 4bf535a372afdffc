"""How far a request's joules may be off: the sensors' documented errors, and its length against their rhythm."""

import math
from collections.abc import Sequence
from typing import Final

from metering.counter import CounterInfo

# A counter refreshed every T tells the moment of a change to within T, every moment alike: a standard deviation of
# T / sqrt(12). A request has two such ends, and twice the standard deviation covers 95 % (the coverage factor 2 of the
# ISO Guide to the Expression of Uncertainty in Measurement).
_EDGES: Final = 2 * math.sqrt(2 / 12)


def uncertainty_ratio(
    counters: Sequence[CounterInfo], microjoules: Sequence[int], seconds: float, lost_ratio: float = 0.0
) -> float | None:
    """Of a request's energy, 0 to 1, at a confidence of about 95 %; None where a sensor's error is not documented.

    `microjoules` is the energy per component, in the order in which `counters` first name them; `seconds` is the
    request's length, `lost_ratio` how much of it resets of a counter have hidden. The steady errors of several sensors
    are taken to point the same way.
    """
    components = list(dict.fromkeys(counter.component for counter in counters))
    total = sum(microjoules)
    steady = 0.0
    for component, energy in zip(components, microjoules, strict=True):
        share = energy / total if total else 1 / len(components)
        errors = [counter.uncertainty_ratio for counter in counters if counter.component == component]
        known = [error for error in errors if error is not None]
        if len(known) < len(errors):
            return None
        steady += share * max(known)
    period = max(counter.update_period_seconds for counter in counters)
    edges = _EDGES * period / seconds if seconds > 0 else 1.0
    return min(1.0, math.hypot(steady, edges, lost_ratio))
