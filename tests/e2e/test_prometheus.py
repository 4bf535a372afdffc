"""A real Prometheus with the shipped configuration, beside the real engine: every panel and rule, and the same joules.

The server that is scraped is a front end of its own, with tenants, keys and a budget, attached to the shared server's
engine: starting another engine would take longer than everything else here.
"""

import pytest

from bench.prometheus_proof.prometheus import is_installed
from bench.prometheus_proof.report import lines
from bench.prometheus_proof.server import scraped_server
from bench.prometheus_proof.study import HURRIED, Proof, prove
from tests.e2e.figures import show
from tests.e2e.wattline_process import WattlineProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

LOAD_SECONDS = 18.0


@pytest.fixture(scope="module")
def proof(server: WattlineProcess, tmp_path_factory: pytest.TempPathFactory) -> Proof:
    if not is_installed():
        pytest.skip("Prometheus is not installed: Debian's package is called prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    (engine,) = server.engines()
    with scraped_server(folder, ["--worker-url", f"unix:{engine.socket_path}"]) as scraped:
        made = prove(scraped, folder, LOAD_SECONDS, HURRIED, show)
    for line in lines(made):
        show(line)
    return made


def test_every_panel_and_variable_and_rule_returns_data(proof: Proof) -> None:
    assert len(proof.asked) > 100
    assert [f"{one.where}, {one.what}: {one.fault}" for one in proof.asked if one.fault] == []


def test_the_load_was_of_every_kind(proof: Proof) -> None:
    told = proof.told
    assert told.answers > 0
    assert told.left > 0
    assert told.unknown == 0
    # A wrong request, no key, no such model, a spent budget.
    assert told.statuses.keys() == {400, 401, 404, 429}


def test_responses_ledger_and_prometheus_tell_the_same_joules(proof: Proof) -> None:
    for agreement in proof.agreements:
        assert min(agreement.joules.values()) > 0
        assert agreement.worst_ratio < 0.001, agreement.joules
