"""What a provider or a file gets wrong. Each message is short, ours, and quotes nothing of what was sent."""


class CarbonError(Exception):
    """No carbon intensity can be had."""


class CarbonAnswerError(CarbonError):
    """A provider's answer holds no carbon intensity that could be used."""


class CarbonFileError(CarbonError):
    """A file of times holds no carbon intensities that could be used."""
