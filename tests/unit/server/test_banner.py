"""What an operator reads at the start is what was configured, and what was found."""

from pathlib import Path

import pytest

from scheduler.targets import LatencyTargets
from server.banner import StartFacts, banner_lines, heading
from server.meter_facts import MeterFacts, meter_facts
from server.model_settings import ModelSettings
from server.served_models import ServedModel
from server.settings import Settings
from tests.powercap_tree import PowercapTree

ADDRESS = "http://127.0.0.1:8000"
SMOLLM2 = ServedModel(ModelSettings(name="smollm2"), "/models/smollm2", ("smollm2",), ("vllm-0", "vllm-1"), "cpu", "")
ATTACHED = ServedModel(ModelSettings(worker_urls=("http://a:1",)), None, (), ("remote-0",), "auto", "")
ESTIMATE = MeterFacts("estimate", measured=False, components=("cpu",), refused=("nvml", "rapl"))


def said(
    settings: Settings,
    *models: ServedModel,
    meter: MeterFacts | None = None,
    host: str = "127.0.0.1",
    has_keys: bool = False,
) -> dict[str, str]:
    targets = LatencyTargets(ttft_seconds=5.0, tpot_seconds=0.5)
    facts = StartFacts(settings, models, meter, targets, ADDRESS, host, has_keys=has_keys)
    assert heading(facts).endswith(f", listening on {ADDRESS}")
    return {line.label: ("WARNING " if line.is_warning else "") + line.text for line in banner_lines(facts)}


def test_everything_about_a_server_that_starts_its_engines() -> None:
    assert said(Settings(ledger_url="sqlite:////tmp/l.db", power_cap_watts=300.0), SMOLLM2, meter=ESTIMATE) == {
        "model": "smollm2 on 2 vLLM engines (cpu)",
        "energy": "estimate, not measured (cpu); nvml, rapl cannot be read here, `wattline meter` says why",
        "policy": "energy, targets p99 TTFT 5 s, p99 TPOT 0.5 s, at most 300 W",
        "keys": "none: whoever is on this machine may send requests",
        "ledger": "sqlite:////tmp/l.db",
        "API": f"{ADDRESS}/v1",
        "dashboard": f"{ADDRESS}/",
        "metrics": f"{ADDRESS}/metrics",
        "terminal": f"wattline top {ADDRESS}",
    }


def test_what_is_attached_speaks_for_itself() -> None:
    lines = said(Settings(ledger_url="none"), ATTACHED)
    assert lines["model"] == "those of 1 attached server"
    assert lines["energy"] == "as the attached servers tell it"
    assert lines["ledger"] == "none: nothing is kept"


def test_a_measured_meter_says_of_what() -> None:
    meter = MeterFacts("nvml+rapl", measured=True, components=("gpu", "cpu", "dram"), refused=("zeus",))
    lines = said(Settings(ledger_url="none"), SMOLLM2, ATTACHED, meter=meter)
    assert lines["energy"] == "nvml+rapl, measured (gpu, cpu, dram); as the attached servers tell it"


def test_who_may_ask() -> None:
    settings = Settings(ledger_url="none", insecure=True)
    assert said(settings, SMOLLM2, has_keys=True)["keys"] == "callers need a key (wattline keys list)"
    assert said(settings, SMOLLM2, host="0.0.0.0")["keys"].startswith("WARNING 0.0.0.0 can be reached from other")


def test_a_password_is_not_shown() -> None:
    shown = said(Settings(ledger_url="postgresql://me:secret@db/wattline"), SMOLLM2)["ledger"]
    assert "secret" not in shown
    assert shown.startswith("postgresql://me:***@db/")


def test_the_meter_is_what_the_engines_will_have(tmp_path: Path) -> None:
    environ = {"WATTLINE_RAPL_ROOT": str(PowercapTree(tmp_path).root)}
    facts = meter_facts(Settings(device="cpu"), environ)
    assert facts is not None
    assert (facts.source, facts.measured) == ("rapl", True)
    assert set(facts.components) == {"cpu", "dram"}
    two = meter_facts(Settings(device="cpu", workers=2), environ)
    assert two is not None
    assert (two.source, two.measured) == ("estimate", False), "two engines cannot share the host's counters"
    assert "rapl" in two.refused
    assert meter_facts(Settings(worker_urls=("http://a:1",)), environ) is None


@pytest.mark.parametrize("workers", [1, 3])
def test_numbers_agree_with_their_nouns(workers: int) -> None:
    ids = tuple(f"remote-{number}" for number in range(workers))
    model = ServedModel(
        ModelSettings(worker_urls=tuple(f"http://a:{n + 1}" for n in range(workers))), None, (), ids, "", ""
    )
    text = said(Settings(ledger_url="none"), model)["model"]
    assert text == ("those of 1 attached server" if workers == 1 else "those of 3 attached servers")
