"""How far a method's joules are from what requests truly cost."""

from dataclasses import dataclass

import numpy as np

from bench.attribution.power_model import FloatArray


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Errors of one method over the requests of one run.

    `error_ratio` is the mean over requests of |told − true|, over their mean true energy. `request_error_ratio` and
    `request_error_p95_ratio` are the mean and the 95th percentile of |told − true| / true. `sum_ratio` is all that
    requests were told over all that the device spent in steps: 1 where every joule is told once.
    """

    error_ratio: float
    request_error_ratio: float
    request_error_p95_ratio: float
    sum_ratio: float


def accuracy(told: FloatArray, true: FloatArray, active_joules: float) -> Accuracy:
    """Compares what requests were told with what they cost; those that cost nothing (never ran) are left out."""
    ran = true > 0
    missed = np.abs(told - true)[ran]
    relative = missed / true[ran]
    return Accuracy(
        error_ratio=float(missed.mean() / true[ran].mean()),
        request_error_ratio=float(relative.mean()),
        request_error_p95_ratio=float(np.percentile(relative, 95)),
        sum_ratio=float(told.sum() / active_joules),
    )


def mean_accuracy(parts: list[Accuracy]) -> Accuracy:
    """Every run counts the same, however many requests it has."""
    return Accuracy(
        error_ratio=float(np.mean([part.error_ratio for part in parts])),
        request_error_ratio=float(np.mean([part.request_error_ratio for part in parts])),
        request_error_p95_ratio=float(np.mean([part.request_error_p95_ratio for part in parts])),
        sum_ratio=float(np.mean([part.sum_ratio for part in parts])),
    )
