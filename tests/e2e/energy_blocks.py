"""What holds for the energy block of every answer, and how callers of typed clients get at it."""

from typing import Any

import pytest
from pydantic import BaseModel

from tests.e2e.wattline_process import microjoules


def energy_of(answer: BaseModel) -> dict[str, Any]:
    """The energy block, as a caller of a typed client gets at it."""
    assert answer.model_extra is not None
    energy: dict[str, Any] = answer.model_extra["energy"]
    return energy


def check_energy(energy: dict[str, Any]) -> None:
    """What holds for the block of every answer of an engine without a sensor."""
    check_parts(energy)
    per_token = energy["energy_joules"] / energy["output_tokens"]
    assert energy["joules_per_output_token"] == pytest.approx(per_token, rel=1e-4)


def check_parts(energy: dict[str, Any]) -> None:
    """The same for answers that need not have tokens."""
    parts = microjoules(energy["prefill_joules"]) + microjoules(energy["decode_joules"])
    components = sum(microjoules(joules) for joules in energy["components_joules"].values())
    assert parts == components == microjoules(energy["energy_joules"])
    assert energy["energy_joules"] > 0
    assert energy["prefill_joules"] > 0
    assert energy["energy_kwh"] == pytest.approx(energy["energy_joules"] / 3.6e6)
    assert energy["source"] == "estimate"
    assert energy["measured"] is False
    assert energy["uncertainty_ratio"] is None
    assert energy["attribution_method"] == "step_prorated"
    assert 0 < energy["attribution_ratio"] <= 1
    assert energy["avg_power_watts"] == pytest.approx(energy["energy_joules"] / energy["duration_seconds"], rel=0.01)
