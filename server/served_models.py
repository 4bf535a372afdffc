"""The models of a configuration, found: what to load, every name that requests may use, the ids of the workers."""

import importlib.util
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from server.engine_args import read_engine_args
from server.errors import SettingError, StartError
from server.model_settings import ModelSettings
from server.model_store import ResolvedModel
from server.settings import Settings

_NOT_IN_AN_ID: Final = re.compile(r"[^A-Za-z0-9._-]+")
_ATTACHED: Final = "remote"
_STARTED: Final = "vllm"

FindModel = Callable[[str], ResolvedModel]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model and who serves it.

    `path_or_id` is what vLLM loads, None where running servers are attached. `names` are those known beforehand, its
    own first, then aliases and adapters; none where only the attached servers know them. `device` is `cuda` or `cpu`,
    `auto` too where servers are attached: what they run on is not known. `settings_key` names the settings in errors.
    """

    settings: ModelSettings
    path_or_id: str | None
    names: tuple[str, ...]
    worker_ids: tuple[str, ...]
    device: str
    settings_key: str

    @property
    def is_attached(self) -> bool:
        return self.path_or_id is None


def find_models(settings: Settings, find: FindModel, detect_device: Callable[[str], str]) -> tuple[ServedModel, ...]:
    """Every model of the configuration. `find` may take its time over one that must be fetched first.

    Raises:
        SettingError: arguments for vLLM are not the operator's to give, or names clash.
        StartError: engines are to be started and vLLM is not installed.
    """
    wanted = settings.all_models()
    if not all(model.worker_urls for model in wanted) and importlib.util.find_spec("vllm") is None:
        raise StartError("vLLM is not installed here: `make serve` installs it, or attach with --worker-url")
    detected = {str(model.device): detect_device(str(model.device)) for model in wanted if not model.worker_urls}
    is_short_form = not settings.models
    models: list[ServedModel] = []
    attached = 0
    for number, model in enumerate(wanted):
        key = "" if is_short_form else f"models.{number}."
        found = None if model.model is None else find(model.model)
        names = _names(model, found, key)
        workers = len(model.worker_urls) or model.workers
        ids = _worker_ids(names, workers, attached, is_attached=found is None, is_short_form=is_short_form)
        attached += workers if found is None and (is_short_form or not names) else 0
        path_or_id = None if found is None else found.path_or_id
        device = str(model.device) if found is None else detected[str(model.device)]
        models.append(ServedModel(model, path_or_id, names, ids, device, key))
    _check_distinct(models)
    return tuple(models)


def _names(model: ModelSettings, found: ResolvedModel | None, key: str) -> tuple[str, ...]:
    if found is None:
        return () if model.served_name is None else (model.served_name,)
    given = read_engine_args(model.engine_args, f"{key}engine_args")
    if model.served_name is not None and given.served:
        raise SettingError(f"{key}served_name = {model.served_name!r}: --served-model-name in engine_args says it too")
    served = given.served or ((found.served_name,) if model.served_name is None else (model.served_name,))
    return tuple(dict.fromkeys((*served, *given.adapters)))


def _worker_ids(
    names: tuple[str, ...], workers: int, attached: int, *, is_attached: bool, is_short_form: bool
) -> tuple[str, ...]:
    """Of one model alone `vllm-0` or `remote-0`; of several its name comes first, so that others may come and go."""
    first, stem = 0, _STARTED
    if is_short_form or not names:
        if is_attached:
            first, stem = attached, _ATTACHED
    else:
        stem = _NOT_IN_AN_ID.sub("-", names[0]).strip("-") or "model"
    return tuple(f"{stem}-{first + index}" for index in range(workers))


def _check_distinct(models: Sequence[ServedModel]) -> None:
    name = _first_repeated(chain.from_iterable(model.names for model in models))
    if name is not None:
        keys = " and ".join(f"{model.settings_key}served_name" for model in models if name in model.names)
        raise SettingError(f"{keys}: two models are served as {name!r}, expected a name of its own for each")
    worker_id = _first_repeated(chain.from_iterable(model.worker_ids for model in models))
    if worker_id is not None:
        keys = " and ".join(f"{model.settings_key}served_name" for model in models if worker_id in model.worker_ids)
        raise SettingError(f"{keys}: two workers would be called {worker_id}, expected names that differ in letters")


def _first_repeated(items: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None
