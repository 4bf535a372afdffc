"""What a caller is told."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.block import RequestEnergy, encode_block, unknown_energy_block

MICROJOULES = st.integers(0, 10**13)


def energy(
    prefill: int = 1_200_000, decode: int = 11_145_000, *, tokens: int = 142, seconds: float = 2.0
) -> RequestEnergy:
    return RequestEnergy(
        request_id="r",
        outcome="completed",
        prefill_microjoules=prefill,
        decode_microjoules=decode,
        components_microjoules={"gpu": prefill, "cpu": decode},
        device_microjoules=4 * (prefill + decode),
        duration_seconds=seconds,
        prompt_tokens=9,
        output_tokens=tokens,
        source="nvml",
        measured=True,
        uncertainty_ratio=0.05,
    )


def test_the_block_says_what_the_design_says() -> None:
    block = energy().to_block()
    assert block["energy_joules"] == 12.345
    assert block["energy_kwh"] == pytest.approx(12.345 / 3_600_000)
    assert (block["prefill_joules"], block["decode_joules"]) == (1.2, 11.145)
    assert block["joules_per_output_token"] == pytest.approx(12.345 / 142)
    assert block["avg_power_watts"] == pytest.approx(6.1725, abs=0.001)
    assert block["components_joules"] == {"gpu": 1.2, "cpu": 11.145}
    assert (block["source"], block["measured"], block["uncertainty_ratio"]) == ("nvml", True, 0.05)
    assert (block["attribution_method"], block["attribution_ratio"]) == ("step_prorated", 0.25)


@given(MICROJOULES, MICROJOULES)
def test_prefill_and_decode_make_up_the_energy_to_the_microjoule(prefill: int, decode: int) -> None:
    told = json.loads(encode_block(energy(prefill, decode).to_block()))
    whole = {key: round(told[key] * 1e6) for key in ("energy_joules", "prefill_joules", "decode_joules")}
    assert whole["prefill_joules"] + whole["decode_joules"] == whole["energy_joules"] == prefill + decode
    assert sum(round(joules * 1e6) for joules in told["components_joules"].values()) == prefill + decode


def test_what_has_no_value_is_null() -> None:
    block = energy(0, 0, tokens=0, seconds=0.0).to_block()
    assert block["joules_per_output_token"] is None
    assert block["avg_power_watts"] is None
    assert block["attribution_ratio"] is None


def test_unknown_energy_is_null_with_a_reason_and_never_zero() -> None:
    block = json.loads(encode_block(unknown_energy_block("no sensor")))
    assert block == {"energy_joules": None, "source": None, "measured": False, "reason": "no sensor"}
    assert not any(value == 0 and value is not False for value in block.values())
