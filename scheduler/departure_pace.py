"""How fast places become free while requests wait, for an honest `Retry-After`."""

from math import ceil

# Each departure moves the mean by a tenth: about the last twenty count, enough to smooth over one long answer.
_WEIGHT_OF_NEWEST = 0.1

# HTTP's least. Where no departure was seen yet nothing better is known.
_MIN_RETRY_AFTER_SECONDS = 1


class DeparturePace:
    """A running mean of the seconds between departures, taken only while the queue is not empty.

    An interval that began with an empty queue says how often requests come, not how fast they are served.
    """

    def __init__(self) -> None:
        self._last_departed_at_seconds: float | None = None
        self._mean_interval_seconds: float | None = None

    def queue_formed(self) -> None:
        """The queue was empty and is not any more: the next departure starts a new series of intervals."""
        self._last_departed_at_seconds = None

    def departed(self, now_seconds: float) -> None:
        """A running request left its worker while others waited."""
        last, mean = self._last_departed_at_seconds, self._mean_interval_seconds
        self._last_departed_at_seconds = now_seconds
        if last is None:
            return
        interval_seconds = now_seconds - last
        if mean is None:
            self._mean_interval_seconds = interval_seconds
        else:
            self._mean_interval_seconds = mean + _WEIGHT_OF_NEWEST * (interval_seconds - mean)

    def retry_after_seconds(self, queued_requests: int, longest_seconds: float) -> int:
        """Whole seconds until those who wait now have been placed, at least 1.

        `longest_seconds` caps the answer: nobody waits longer than the queue's timeout.
        """
        if self._mean_interval_seconds is None:
            return _MIN_RETRY_AFTER_SECONDS
        expected_seconds = min(queued_requests * self._mean_interval_seconds, longest_seconds)
        return max(_MIN_RETRY_AFTER_SECONDS, ceil(expected_seconds))
