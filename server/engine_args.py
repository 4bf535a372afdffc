"""What of the operator's arguments for vLLM concerns the front end: names it will serve, and options that are ours."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from server.errors import SettingError

_OURS: Final = frozenset({"--uds", "--host", "--port", "--api-key", "--model", "--root-path"})


@dataclass(frozen=True, slots=True)
class EngineNames:
    """Names on vLLM's command line: `served` for the model itself, the first its own; `adapters` for its LoRAs."""

    served: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()


def read_engine_args(engine_args: Sequence[str], key: str = "engine_args") -> EngineNames:
    """The names in `engine_args`, the setting that is called `key`. Of an option that is repeated, vLLM takes the last.

    Raises:
        SettingError: an argument is Wattline's own, and would cut us off from the engine.
    """
    served: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    for option, values in _options(engine_args):
        if option in _OURS:
            raise SettingError(f"{key}: {option} is set by Wattline, which must reach the engine")
        if option == "--served-model-name":
            served = values
        elif option == "--lora-modules":
            adapters = tuple(_adapter_names(values))
    return EngineNames(served, adapters)


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each option, as vLLM spells it, with all the values that follow it."""
    for at, argument in enumerate(arguments):
        if argument.startswith("--"):
            option, is_joined, value = argument.partition("=")
            following = tuple(takewhile(lambda one: not one.startswith("--"), arguments[at + 1 :]))
            yield option.replace("_", "-"), (value,) if is_joined else following


def _adapter_names(values: Iterable[str]) -> Iterator[str]:
    """Of `NAME=PATH`, or of JSON objects with a `name`, alone or in a list."""
    for value in values:
        if not value.startswith(("{", "[")):
            yield value.partition("=")[0]
            continue
        try:
            modules = json.loads(value)
        except (ValueError, RecursionError):  # vLLM will say what is wrong with it
            continue
        for module in modules if isinstance(modules, list) else [modules]:
            if isinstance(module, dict) and isinstance(name := module.get("name"), str):
                yield name
