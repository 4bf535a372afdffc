"""Engines by name and by sizes: what is refused, what is chosen, and how near they are to cited points."""

from dataclasses import replace

import pytest

from bench.attribution.presets import H100_POINTS
from bench.simulation.errors import SimulationSettingError
from bench.simulation.presets import HARDWARE, MODELS, engine_model, engine_model_of_sizes
from bench.simulation.serving_point import Workload, serving_point

LLAMA_8B = (8.03e9, 16.06e9, 131_072)
LLAMA_8B_OUTPUT_TOKENS = 397


@pytest.mark.parametrize("name", ["llama-3.1-8b", "llama-3.1-70b", "qwen3-8b", "gemma-3-12b"])
@pytest.mark.parametrize("hardware", HARDWARE)
def test_every_measured_model_has_an_engine_on_every_hardware_class(hardware: str, name: str) -> None:
    engine = engine_model(hardware, name)

    assert (engine.hardware, engine.name) == (hardware, name)
    assert engine.measured == (hardware != "a100")
    assert engine.kv_capacity_tokens > 50_000
    assert engine.gpus == ({"h100": 4, "b200": 2, "a100": 4}[hardware] if name == "llama-3.1-70b" else 1)
    assert engine.limit_watts <= HARDWARE[hardware].limit_watts * engine.gpus


def test_unknown_names_are_refused_with_what_is_accepted() -> None:
    with pytest.raises(SimulationSettingError, match=r"gpu='v100': expected one of h100, b200, a100"):
        engine_model("v100", "llama-3.1-8b")
    with pytest.raises(SimulationSettingError, match=r"model='gpt-2': expected one of llama-3\.1-8b, "):
        engine_model("h100", "gpt-2")
    with pytest.raises(ValueError, match="gpu='v100'"):
        engine_model_of_sizes("v100", *LLAMA_8B)


def test_a_model_that_does_not_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(SimulationSettingError, match=r"gpus=1: 70b has 140\.0 GB of weights, and 1 h100 hold 72\.0 GB"):
        engine_model_of_sizes("h100", 70e9, 140e9, 327_680, gpus=1)
    with pytest.raises(SimulationSettingError, match=r"gpus=8: llama-3\.1-405b has 811\.7 GB of weights"):
        engine_model("h100", "llama-3.1-405b")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"parameters": 0}, "parameters=0: expected a finite number of at least 1"),
        ({"kv_bytes_per_token": 1e-310}, "kv_bytes_per_token=1e-310: expected a finite number of at least 1"),
        ({"weight_bytes": float("nan")}, "weight_bytes=nan"),
        ({"kv_bytes_per_token": -1}, "kv_bytes_per_token=-1"),
        ({"gpus": 0}, "gpus=0"),
        ({"active_parameters": 9e9}, "active_parameters=9000000000.0: expected at most"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(sizes: dict[str, float], message: str) -> None:
    given: dict[str, float] = {"parameters": 8.03e9, "weight_bytes": 16.06e9, "kv_bytes_per_token": 131_072, **sizes}

    with pytest.raises(SimulationSettingError, match=message):
        engine_model_of_sizes("h100", **given)  # type: ignore[arg-type]  # gpus among the others, all numbers


def test_an_engine_takes_the_fewest_gpus_that_leave_room_for_a_batch() -> None:
    assert engine_model_of_sizes("h100", *LLAMA_8B).gpus == 1
    assert engine_model_of_sizes("h100", 70.55e9, 141.1e9, 327_680).gpus == 4
    assert engine_model_of_sizes("b200", 70.55e9, 141.1e9, 327_680).gpus == 2


def test_limits_of_the_scheduler_can_be_replaced() -> None:
    engine = engine_model("h100", "llama-3.1-8b")

    assert (engine.max_sequences, engine.max_batched_tokens) == (256, 2048)
    assert replace(engine, max_sequences=512).max_sequences == 512


def test_a_larger_model_takes_longer_to_start_and_more_gpus_draw_more_watts() -> None:
    small, large = engine_model("h100", "llama-3.1-8b"), engine_model("h100", "llama-3.1-70b")

    assert 30 < small.start_seconds < large.start_seconds < 100
    assert large.idle_watts == pytest.approx(4 * small.idle_watts)
    assert small.parked_watts < small.start_watts < small.idle_watts


@pytest.mark.parametrize("point", H100_POINTS, ids=lambda point: f"{point.sequences:.0f}")
def test_the_measured_preset_meets_the_cited_points_within_five_percent(point: object) -> None:
    measured = next(each for each in H100_POINTS if each is point)
    work = Workload(measured.sequences, LLAMA_8B_OUTPUT_TOKENS)

    predicted = serving_point(engine_model("h100", "llama-3.1-8b"), work)

    assert predicted.power_watts == pytest.approx(measured.power_watts, rel=0.05)
    assert predicted.median_inter_token_seconds == pytest.approx(measured.inter_token_seconds, rel=0.05)


def test_sizes_alone_come_near_the_measured_preset() -> None:
    by_sizes, measured = engine_model_of_sizes("h100", *LLAMA_8B), engine_model("h100", "llama-3.1-8b")

    assert not by_sizes.measured
    for batch in (1, 8, 64, 256):
        assert by_sizes.step_seconds(batch, 700 * batch) == pytest.approx(
            measured.step_seconds(batch, 700 * batch), rel=0.2
        )
        assert by_sizes.step_watts(batch, 700 * batch) == pytest.approx(
            measured.step_watts(batch, 700 * batch), rel=0.2
        )


def test_models_of_more_active_parameters_than_parameters_do_not_exist() -> None:
    assert all((model.active_parameters or model.parameters) <= model.parameters for model in MODELS.values())
