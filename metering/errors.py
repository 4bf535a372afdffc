"""What can go wrong while measuring, split by whose fault it is."""


class MeteringError(Exception):
    """Base of every error this package raises on purpose."""


class SourceUnavailableError(MeteringError):
    """A counter source cannot be used on this machine; the message says why and how to mend it.

    `reason` is the why alone; `remedies` are ways to mend it, any one of which suffices. Both are in the message.
    """

    def __init__(self, reason: str, remedies: tuple[str, ...] = ()) -> None:
        super().__init__(f"{reason}; to mend it: {'; or '.join(remedies)}" if remedies else reason)
        self.reason = reason
        self.remedies = remedies


class CounterReadError(MeteringError):
    """A counter that used to answer did not; the reading is lost, the counter may come back."""


class MeterSettingError(MeteringError):
    """The operator asked for a meter that does not exist or is misspelt."""
