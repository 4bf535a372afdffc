"""What the scheduler is for: the same requests in the same targets for far fewer joules. Replays a public trace."""

import os
from functools import cache
from pathlib import Path

import pytest

from bench.simulation.figures import RunFigures, figures_of
from bench.simulation.presets import engine_model
from bench.simulation.study import StudySettings, run_policy
from bench.simulation.trace import read_trace
from bench.simulation.workload import WorkloadSettings, plan_requests

# The trace is not part of the repository; a copy is looked for in a folder beside the checkout.
_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data" / "azure_llm_2023_conv.csv"
AZURE_HOUR = Path(os.environ.get("AZURE_LLM_TRACE", _BESIDE))

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        not AZURE_HOUR.is_file(), reason=f"no trace at {AZURE_HOUR}: set AZURE_LLM_TRACE to Azure's of 2023"
    ),
]


@cache
def ran(policy: str, gpus: int, flex_share_ratio: float) -> RunFigures:
    """Llama-3.1-8B on H100s, p99 targets of 1 s to the first token and 50 ms a token, the hour at rate ×4."""
    requests = plan_requests(read_trace(AZURE_HOUR), WorkloadSettings(4.0, flex_share_ratio=flex_share_ratio))
    return figures_of(run_policy(StudySettings(engine_model("h100", "llama-3.1-8b")), policy, gpus, requests))


def saved_ratio(gpus: int, flex_share_ratio: float) -> float:
    return 1 - ran("energy", gpus, flex_share_ratio).energy_joules / ran("round-robin", gpus, 0.0).energy_joules


@pytest.mark.parametrize(("gpus", "least_saved_ratio"), [(8, 0.50), (6, 0.40), (4, 0.22)])
def test_the_same_requests_within_the_same_targets_cost_far_fewer_joules(gpus: int, least_saved_ratio: float) -> None:
    assert saved_ratio(gpus, 0.0) >= least_saved_ratio
    for policy in ("energy", "round-robin"):
        latency = ran(policy, gpus, 0.0).latency
        assert latency.targets_met
        assert latency.requests == 19366


@pytest.mark.parametrize("gpus", [8, 6, 4])
def test_requests_that_can_wait_save_more(gpus: int) -> None:
    assert saved_ratio(gpus, 0.3) > saved_ratio(gpus, 0.0)
    assert ran("energy", gpus, 0.3).latency.targets_met
