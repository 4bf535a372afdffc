"""The GPU model against measured points it was not fitted to. The points are not ours to ship: skipped without them."""

import os
from dataclasses import asdict
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="fitting needs scipy, of Wattline's extra `bench`")

from bench.simulation.calibration import CLASS_CONSTANTS, ENGINE_CALIBRATIONS
from bench.simulation.errors import SimulationSettingError
from bench.simulation.fit import fit_all
from bench.simulation.points_file import MeasuredPoint, read_points
from bench.simulation.validation import Validation, format_validation, validate

_BESIDE = Path(__file__).parents[4] / "shared" / "data" / "mlenergy_h100_b200.csv"
_FILE = Path(os.environ.get("WATTLINE_CALIBRATION_DATA", _BESIDE))
# On a B200 these two are slower than the host lets them be, from some batch on and by up to a factor of 2.7, and
# neither foretells the other; see docs/gpu-model.md.
ERRATIC = {("qwen3-8b", "b200"), ("llama-3.1-8b", "b200")}

needs_points = pytest.mark.skipif(
    not _FILE.is_file(), reason=f"no measured points at {_FILE}: set WATTLINE_CALIBRATION_DATA to the ML.ENERGY file"
)


@pytest.fixture(scope="module")
def points() -> tuple[MeasuredPoint, ...]:
    return read_points(_FILE)


@pytest.fixture(scope="module")
def validation(points: tuple[MeasuredPoint, ...]) -> Validation:
    return validate(points)


@needs_points
def test_rows_not_fitted_are_met_within_eight_percent_on_the_h100(validation: Validation) -> None:
    for errors in (*validation.other_rows, *validation.other_rows_swapped):
        if errors.hardware == "h100":
            assert errors.largest_ratio <= 0.08, errors


@needs_points
def test_rows_not_fitted_are_met_on_the_b200_as_far_as_a_smooth_curve_meets_them(validation: Validation) -> None:
    for errors in (*validation.other_rows, *validation.other_rows_swapped):
        assert errors.joules_per_output_token_error_ratio <= 0.10, errors
        if (errors.model, errors.hardware) not in ERRATIC:
            assert errors.power_error_ratio <= 0.08, errors
            assert errors.inter_token_error_ratio <= 0.12, errors


@needs_points
def test_models_known_by_their_sizes_alone_are_met_within_twenty_percent(validation: Validation) -> None:
    for errors in validation.other_models:
        assert errors.joules_per_output_token_error_ratio <= 0.15, errors
        if (errors.model, errors.hardware) not in ERRATIC:
            assert errors.largest_ratio <= 0.20, errors


@needs_points
def test_shipped_presets_meet_every_published_row_within_eight_percent(validation: Validation) -> None:
    for errors in validation.as_shipped:
        assert errors.largest_ratio <= 0.08, errors


@needs_points
def test_the_shipped_constants_are_those_the_fit_gives(points: tuple[MeasuredPoint, ...]) -> None:
    fitted = fit_all(points)

    for hardware, constants in fitted.classes.items():
        assert asdict(CLASS_CONSTANTS[hardware]) == pytest.approx(asdict(constants), rel=0.01)
    for key, engine in fitted.engines.items():
        assert asdict(ENGINE_CALIBRATIONS[key].constants) == pytest.approx(asdict(engine.constants), rel=0.01)
        assert ENGINE_CALIBRATIONS[key].seconds_factors == pytest.approx(engine.seconds_factors, rel=0.01)


ROWS = """model,gpu,num_gpus,total_params_billions,weight_precision,max_num_seqs,mean_batch_size,mean_power_watts,\
joules_per_output_token,joules_per_request,mean_output_tokens,output_tokens_per_second,median_itl_milliseconds
Made-Up-20B-A2B/chat,H100,2,20.0,bfloat16,8,8,500.0,1.0,400,400,500,10.0
Made-Up-20B-A2B/chat,H100,2,20.0,bfloat16,64,64,800.0,0.3,120,400,2500,20.0
Too-Large/chat,H100,1,90.0,bfloat16,8,8,500.0,1.0,400,400,500,10.0
Elsewhere/chat,V100,1,7.0,bfloat16,8,8,500.0,1.0,400,400,500,10.0
"""


def test_a_file_of_other_models_is_checked_by_their_sizes_and_says_what_it_left_out(tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    file.write_text(ROWS, encoding="utf-8")

    result = validate(read_points(file))

    assert [(errors.model, errors.points) for errors in result.as_shipped] == [("made-up-20b-a2b", 2)]
    assert result.other_models == ()
    assert "too-large on h100: gpus=1" in result.left_out[0]
    assert "gpu='v100': expected one of" in result.left_out[1]
    assert "made-up-20b-a2b" in format_validation(result)


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    file.write_text("TIMESTAMP,ContextTokens\n1,2\n", encoding="utf-8")

    with pytest.raises(SimulationSettingError, match="expected serving points as CSV"):
        read_points(file)
    with pytest.raises(SimulationSettingError, match="expected a readable file"):
        read_points(tmp_path / "absent.csv")
