"""Engines that others start are to be metered as those that Wattline starts itself."""

import re
from pathlib import Path

import pytest

from workers.vllm_engine import vllm_command, vllm_environ

_TOP = Path(__file__).parents[3]
_UNIT = _TOP / "deploy" / "systemd" / "wattline-worker@.service"
_TEMPLATE = _TOP / "deploy" / "helm" / "wattline" / "templates" / "workers.yaml"
# What depends on the one engine rather than on the meter, or is vLLM's positional argument elsewhere.
_OF_ONE_ENGINE = {"--model", "--uds", "--served-model-name"}


@pytest.mark.parametrize("file", [_UNIT, _TEMPLATE], ids=lambda file: file.name)
def test_the_meter_is_loaded_by_the_same_options(file: Path) -> None:
    command = vllm_command("model", "name", "cuda", (), Path("engine.sock"))
    options = {part for part in command if part.startswith("--")} - _OF_ONE_ENGINE

    given = set(re.findall(r"(?<![\w-])--[\w-]+", file.read_text(encoding="utf-8")))

    assert "--middleware" in options
    assert options <= given
    assert "metering.vllm_plugin.EnergyMiddleware" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", [_UNIT, _TEMPLATE], ids=lambda file: file.name)
def test_the_engine_runs_with_the_same_variables(file: Path) -> None:
    text = file.read_text(encoding="utf-8")

    for name, value in vllm_environ({}, "worker", "auto", "cuda", None).items():
        assert re.search(rf"\b{name}\b", text), name
        if name.startswith("VLLM_"):
            assert value in text, name
