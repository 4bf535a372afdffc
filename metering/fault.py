"""What can go wrong with a counter while it is being read."""

from enum import StrEnum


class CounterFault(StrEnum):
    """Each begins a new epoch of the counter: what it told before and after is not compared as if nothing had been."""

    RESET = "reset"
    """It went backwards, as when the driver is loaded anew. What was spent since the last reading is not known."""
    JUMP = "jump"
    """It rose by more than the device can have spent."""
    STALL = "stall"
    """It answers, and its value stands still."""
    LOST = "lost"
    """It does not answer."""
    SAMPLER = "sampler"
    """Nobody asked it: the thread that reads it had died and was started again."""
    SUSPENDED = "suspended"
    """The machine slept: time passed that the monotonic clock does not show."""
