"""What can be wrong with what a simulation is asked for: always the caller's fault."""


class SimulationSettingError(ValueError):
    """A setting is wrong: the message names the key, the value and what was expected."""
