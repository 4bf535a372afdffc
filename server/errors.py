"""What can go wrong in the front end, split by whose fault it is. Each message is one line an operator can act on."""


class WattlineError(Exception):
    """Base of every error this package raises on purpose."""


class ModelNotFoundError(WattlineError):
    """The operator named a model that is neither an alias, nor an existing path, nor a Hugging Face id."""


class ModelFetchError(WattlineError):
    """A model could not be downloaded, verified or converted; the message ends with what the failing tool said."""


class SettingError(WattlineError):
    """A setting is wrong: the message names the key, the value and what was expected."""


class StartError(WattlineError):
    """The server cannot start although its settings are right (a port in use, say)."""


class CommandError(WattlineError):
    """A command could not do what it was asked to, although it was asked rightly."""
