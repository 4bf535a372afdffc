"""That what is shipped for Prometheus is whole: names that exist, a test for each rule, a page for each alert."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.prometheus.check import commands, main
from server.metrics_page import metric_names

_TOP = Path(__file__).parents[3]
_FOLDER = _TOP / "deploy" / "prometheus"
RULES = (_FOLDER / "rules" / "recording.yml").read_text()
ALERTS = (_FOLDER / "rules" / "alerts.yml").read_text()
ALERT_NAMES = sorted(set(re.findall(r"- alert: (\w+)", ALERTS)))
RECORDED = sorted(re.findall(r"- record: (\S+)", RULES))

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian's package prometheus has it)"
)


@needs_promtool
@pytest.mark.parametrize("command", list(commands("promtool")), ids=lambda command: " ".join(command[1:3]))
def test_promtool_finds_nothing(command: list[str]) -> None:
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@needs_promtool
def test_a_rule_that_is_wrong_is_found(tmp_path: Path) -> None:
    folder = shutil.copytree(_FOLDER, tmp_path / "prometheus")
    alerts = folder / "rules" / "alerts.yml"
    alerts.write_text(alerts.read_text().replace("< 0.1", "< 0.01"))
    codes = [subprocess.run(one, check=False, capture_output=True).returncode for one in commands("promtool", folder)]
    assert codes[:2] == [0, 0]
    assert codes[2] != 0


def test_the_check_says_why_it_is_skipped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    assert main() == 0
    assert capsys.readouterr().out.startswith("skipped: promtool is not installed")


@pytest.mark.parametrize("alert", ALERT_NAMES)
def test_every_alert_is_tested_where_it_fires_and_where_it_does_not_and_has_its_page(alert: str) -> None:
    tests = (_FOLDER / "tests" / "alerts.yml").read_text()
    cases = re.findall(rf"- alertname: {alert}\n +eval_time: \w+\n( +exp_alerts:)?", tests)
    assert "" in cases
    assert any(cases)
    assert f"\n## {alert}\n" in (_TOP / "docs" / "alerts.md").read_text()
    assert f"runbook: docs/alerts.md#{alert.lower()}" in ALERTS


def test_every_alert_says_what_it_is() -> None:
    count = ALERTS.count("- alert: ")
    for key in ("summary: ", "description: ", "runbook: ", "severity: "):
        assert len(re.findall(rf"^ +(?:labels: {{)?{key}", ALERTS, re.MULTILINE)) == count, key


@pytest.mark.parametrize("rule", RECORDED)
def test_every_recording_rule_is_tested(rule: str) -> None:
    assert re.search(rf"expr: .*{rule}\b", (_FOLDER / "tests" / "recording.yml").read_text())


def test_rules_use_what_there_is() -> None:
    expressions = re.sub(
        r"^ *(#|- record|- alert|summary|description|runbook).*$", "", RULES + ALERTS, flags=re.MULTILINE
    )
    used = set(re.findall(r"(?<![\w:])wattline_\w+", expressions))
    assert used <= metric_names().keys()
    assert set(re.findall(r"wattline:[\w:]+", expressions)) <= set(RECORDED)
