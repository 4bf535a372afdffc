"""The meter alone: a stock vLLM server, told of the middleware on its command line, and nothing else of Wattline."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.figures import show
from tests.e2e.stand_alone_engine import StandAlone, stand_alone_engine
from tests.e2e.wattline_process import Metrics, counter_microjoules, engine_energy, microjoules, parts_microjoules

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


PROMPT = {"model": "smollm2", "prompt": "One, two,", "max_tokens": 12, "ignore_eos": True}


@pytest.fixture(scope="module")
def engine(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandAlone]:
    with stand_alone_engine(checkpoint, tmp_path_factory.mktemp("stand_alone") / "output.log") as running:
        yield running


def test_answers_carry_their_energy(engine: StandAlone) -> None:
    whole = engine.client.post("/v1/completions", json=PROMPT)
    energy = whole.json()["energy"]
    assert energy["energy_joules"] > 0
    assert energy["output_tokens"] == 12
    parts = microjoules(energy["prefill_joules"]) + microjoules(energy["decode_joules"])
    assert parts == microjoules(energy["energy_joules"]) == microjoules(float(whole.headers["X-Energy-Joules"]))
    assert energy["measured"] is (energy["source"] != "estimate")

    streamed = engine.client.post("/v1/completions", json=PROMPT | {"stream": True}).text
    assert streamed.split("\n\n")[-3].startswith(': energy {"energy_joules":')


def test_report_adds_up_and_metrics_say_the_same(engine: StandAlone) -> None:
    engine.client.post("/v1/completions", json=PROMPT)
    before = engine_energy(engine.socket_path)
    page = Metrics(engine.client.get("/metrics").text)
    after = engine_energy(engine.socket_path)
    for report in (before, after):
        assert parts_microjoules(report) == counter_microjoules(report)
    accounts = page.accounts_microjoules()
    show(f"accounts in microjoules: {accounts}")
    assert set(accounts) == {"prefill", "decode", "idle", "loading", "unattributed"}
    assert min(accounts["prefill"], accounts["decode"], accounts["idle"]) > 0
    assert parts_microjoules(before) <= sum(accounts.values()) <= parts_microjoules(after)
    assert page.total("vllm:request_success_total") > 0  # vLLM's own families are still there
    assert page.total("wattline_energy_counter_faults_total") == 0
