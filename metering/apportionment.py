"""Sharing whole microjoules out so that the parts add up exactly."""

from collections.abc import Sequence


def apportion(amount: int, weights: Sequence[float]) -> list[int]:
    """Split `amount`, at least 0, in the proportion of `weights` by the method of largest remainders.

    Every part is at least 0 and within 1 of its exact share, and they add up to `amount`. Weights are at least 0 and
    finite; where none is above 0 the first part takes all.
    """
    total = sum(weights)
    if not total > 0:
        return [amount, *(0 for _ in weights[1:])]
    exact = [amount * (weight / total) for weight in weights]
    parts = [min(amount, int(share)) for share in exact]
    rest = amount - sum(parts)
    order = sorted(range(len(parts)), key=lambda i: parts[i] - exact[i])
    for i in order[: max(0, rest)]:
        parts[i] += 1
    # Beyond 2**53 a float is off by more than one: the largest part takes what that leaves.
    parts[max(range(len(parts)), key=parts.__getitem__)] += amount - sum(parts)
    return parts
