"""What can go wrong in a simulation, split by whose fault it is."""


class SimulationSettingError(ValueError):
    """A setting is wrong: the message names the key, the value and what was expected."""


class SimulationError(RuntimeError):
    """Scheduler and simulated engines contradict each other: a bug in one of them, ours."""
