"""Debian's Prometheus with our shipped configuration, in a folder of its own, and what its HTTP API answers."""

import contextlib
import json
import math
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from bench.children import PROJECT_FOLDER, child, free_port

SHIPPED: Final = PROJECT_FOLDER / "deploy" / "prometheus"
_START_SECONDS: Final = 30.0
_ANSWER_SECONDS: Final = 15.0
_UNPROCESSABLE: Final = (400, 422)
_WINDOW: Final = re.compile(r"(\[|\boffset )(\d+)([smhd])(?=\W)")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class PrometheusError(RuntimeError):
    """Prometheus refused an expression; the message is its own."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer: its labels, and its largest value that is a number; None where there is none."""

    labels: dict[str, str]
    value: float | None


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast Prometheus works, and by how much the windows of the rules are shortened, so that they fill in time."""

    interval_seconds: float
    window_divisor: int = 1
    is_hurried: bool = True

    def hurried(self, expression: str) -> str:
        """An expression or a file of rules with every window and offset shortened, to two scrapes at the least."""
        return _WINDOW.sub(self._shortened, expression) if self.window_divisor != 1 else expression

    def _shortened(self, match: re.Match[str]) -> str:
        seconds = int(match[2]) * _UNIT_SECONDS[match[3]] / self.window_divisor
        return f"{match[1]}{max(round(seconds), round(2 * self.interval_seconds))}s"


AS_SHIPPED: Final = Pace(15.0, is_hurried=False)


def is_installed() -> bool:
    """Whether this machine has Prometheus."""
    return shutil.which("prometheus") is not None


class Prometheus:
    """A running Prometheus' HTTP API. `substitutions` are what was changed of the shipped configuration."""

    def __init__(self, url: str, pid: int, substitutions: tuple[str, ...]) -> None:
        self.url = url
        self.pid = pid
        self.substitutions = substitutions

    def instant(self, expression: str, at_unix_seconds: float | None = None) -> list[Series]:
        """The series of an expression at an instant, now unless told.

        Raises:
            PrometheusError: the expression is refused.
        """
        parameters = {"query": expression}
        if at_unix_seconds is not None:
            parameters["time"] = f"{at_unix_seconds:.3f}"
        data = self._get("/api/v1/query", parameters)
        if data["resultType"] == "scalar":
            return [Series({}, float(data["result"][1]))]
        return [Series(found["metric"], _largest([found["value"]])) for found in data["result"]]

    def over_time(
        self, expression: str, since_unix_seconds: float, until_unix_seconds: float, step_seconds: float
    ) -> list[Series]:
        """The series of an expression over a range, each with its largest number.

        Raises:
            PrometheusError: the expression is refused.
        """
        parameters = {
            "query": expression,
            "start": f"{since_unix_seconds:.3f}",
            "end": f"{until_unix_seconds:.3f}",
            "step": f"{step_seconds:g}",
        }
        data = self._get("/api/v1/query_range", parameters)
        return [Series(found["metric"], _largest(found["values"])) for found in data["result"]]

    def number(self, expression: str, at_unix_seconds: float | None = None) -> float | None:
        """The value of an expression of one series, None where it has none."""
        found = self.instant(expression, at_unix_seconds)
        return found[0].value if found else None

    def label_values(self, label: str, selector: str) -> list[str]:
        """The values that a label has among the series of a selector, as Grafana asks for a variable's."""
        found: list[str] = self._get(f"/api/v1/label/{label}/values", {"match[]": selector})
        return found

    def rule_groups(self) -> list[dict[str, Any]]:
        """The groups of rules that it evaluates, with how that went."""
        found: list[dict[str, Any]] = self._get("/api/v1/rules", {})["groups"]
        return found

    def targets(self) -> list[dict[str, Any]]:
        """What it scrapes, with how that went."""
        found: list[dict[str, Any]] = self._get("/api/v1/targets", {})["activeTargets"]
        return found

    def _get(self, path: str, parameters: dict[str, str]) -> Any:  # noqa: ANN401  # as the path has it
        url = f"{self.url}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=_ANSWER_SECONDS) as response:  # noqa: S310  # our own http://
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            with error:
                if error.code not in _UNPROCESSABLE:
                    raise
                raise PrometheusError(json.load(error)["error"]) from error


@contextlib.contextmanager
def running(folder: Path, target: str, key: str | None, pace: Pace) -> Iterator[Prometheus]:
    """Runs Prometheus for the time of the block, with the shipped rules, scraping `target` as HOST:PORT.

    Raises:
        ChildFailedError: it did not start, as when it does not like its configuration.
    """
    configuration, substitutions = configured(folder, target, key, pace)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with child(command, url, "/-/ready", _START_SECONDS) as pid:
        yield Prometheus(url, pid, substitutions)


def configured(folder: Path, target: str, key: str | None, pace: Pace) -> tuple[Path, tuple[str, ...]]:
    """A copy of what is shipped, changed where this machine and this hurry ask for it; and what was changed."""
    yaml = YAML(typ="safe")
    shutil.copytree(SHIPPED, folder / "prometheus")
    path = folder / "prometheus" / "prometheus.yml"
    configuration = yaml.load(path)
    changed = [f"target {target}"]
    if pace.is_hurried:
        interval = f"{pace.interval_seconds:g}s"
        changed.append(f"scrapes and evaluations every {interval}")
        configuration["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
    for scraped in configuration["scrape_configs"]:
        scraped["static_configs"] = [{"targets": [target]}]
        if key is not None:
            (folder / "key").write_text(key)
            scraped["authorization"] = {"credentials_file": str(folder / "key")}
            changed.append("the authorization that is commented out, with a file of the administrator's key")
    yaml.dump(configuration, path)
    if pace.window_divisor != 1:
        changed.append(f"windows of the rules divided by {pace.window_divisor}")
        for rules in (folder / "prometheus" / "rules").glob("*.yml"):
            rules.write_text(pace.hurried(rules.read_text()))
    return path, tuple(changed)


def _largest(values: list[tuple[float, str]]) -> float | None:
    return max((value for value in (float(text) for _, text in values) if math.isfinite(value)), default=None)
