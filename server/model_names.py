"""The names under which requests may ask for a model: those configured, and those that workers have announced."""

from collections.abc import Sequence

from server.api_error import ApiError
from server.pass_through import no_worker_ready
from server.roster import Roster
from server.served_models import ServedModel


class ModelNames:
    """Grows with what the workers list; a vLLM server with aliases or LoRA adapters lists several names."""

    def __init__(self, models: Sequence[ServedModel], roster: Roster) -> None:
        self._own = tuple(model.names[0] for model in models if model.names)
        self._configured = frozenset(name for model in models for name in model.names)
        self._roster = roster

    def knows(self, name: str) -> bool:
        """Whether a model of this name is configured or was announced by a worker."""
        return name in self._configured or any(name in member.models for member in self._roster.members())

    def check_any(self) -> None:
        """Refuse while nobody can say what is served: no name is configured and no worker was there yet.

        Raises:
            ApiError: 503.
        """
        if not self._configured and not any(member.models for member in self._roster.members()):
            raise no_worker_ready()

    def default(self) -> str:
        """What a request means that names no model, as vLLM lets it: the only one.

        Raises:
            ApiError: 400 where there are several, 503 where none is known yet.
        """
        names = dict.fromkeys(self._own)
        for member in self._roster.members():
            if member.models and not member.models & names.keys():
                names[min(member.models)] = None
        if not names:
            raise no_worker_ready()
        if len(names) > 1:
            raise ApiError(
                400, f"model: expected one of {', '.join(names)}, for several are served", "missing_model", "model"
            )
        return next(iter(names))
