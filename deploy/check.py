"""Command line: `python -m deploy.check` holds what Wattline is deployed with to the rules of those who read it.

The Dockerfiles to hadolint's, the compose file to the Compose Specification's schema, the chart to Helm and Kubernetes,
the units to systemd. What cannot be checked on this machine is named with the reason, and fails nothing.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_TOP: Final = _HERE.parent
DOCKERFILES: Final = tuple(sorted((_HERE / "docker").glob("Dockerfile*")))
COMPOSE_FILE: Final = _TOP / "docker-compose.yml"
UNITS: Final = tuple(sorted((_HERE / "systemd").glob("*.service")))
_NOT_INSTALLED_YET: Final = re.compile(r"^ExecStart=/opt/\S+", re.MULTILINE)
_HELM: Final = "helm_python"


class SkippedError(Exception):
    """The check cannot be made on this machine; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Check:
    """`run` gives the problems it finds, one line each, or raises `SkippedError`."""

    name: str
    run: Callable[[], Iterable[str]]


def check_dockerfiles(files: Iterable[Path] = DOCKERFILES) -> list[str]:
    """What hadolint says of the Dockerfiles."""
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        raise SkippedError("hadolint is not installed")
    return _complaints([hadolint, "--no-color", *map(str, files)])


def check_compose(file: Path = COMPOSE_FILE) -> list[str]:
    """Where the compose file is not what the Compose Specification allows."""
    if importlib.util.find_spec("check_jsonschema") is None:
        raise SkippedError("check-jsonschema is not installed")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return _complaints(command)


def check_chart() -> list[str]:
    """What Helm and Kubernetes say of the chart."""
    if importlib.util.find_spec(_HELM) is None:
        raise SkippedError("helm-python-sdk is not installed")
    from deploy.chart import chart_problems, without_links  # noqa: PLC0415  # loads Helm, of 80 MB

    with without_links() as chart:
        return chart_problems(chart)


def check_units(files: Iterable[Path] = UNITS) -> list[str]:
    """What systemd says of the units. Our programs stand in for by one that exists everywhere."""
    systemd = shutil.which("systemd-analyze")
    if systemd is None:
        raise SkippedError("systemd-analyze is not installed")
    with tempfile.TemporaryDirectory() as folder:
        shown = []
        for file in files:
            copy = Path(folder) / file.name.replace("@.", "@example.")
            copy.write_text(_NOT_INSTALLED_YET.sub("ExecStart=/bin/true", file.read_text(encoding="utf-8")))
            shown.append(str(copy))
        return _complaints([systemd, "verify", "--man=no", "--recursive-errors=no", *shown], says_nothing=True)


CHECKS: Final = (
    Check("deploy/docker: hadolint", check_dockerfiles),
    Check("docker-compose.yml: Compose Specification", check_compose),
    Check("deploy/helm: Helm, and Kubernetes' schemas", check_chart),
    Check("deploy/systemd: systemd-analyze verify", check_units),
)


def main() -> int:
    """Make every check and say how it went; the exit status is 1 where one found something."""
    failed = False
    for check in CHECKS:
        try:
            problems = list(check.run())
        except SkippedError as reason:
            sys.stdout.write(f"{check.name}: skipped, {reason}\n")
            continue
        for problem in problems:
            sys.stderr.write(f"{check.name}: {problem}\n")
        failed = failed or bool(problems)
    return int(failed)


def _complaints(command: list[str], *, says_nothing: bool = False) -> list[str]:
    """The lines that `command` prints where it fails; one that `says_nothing` when all is well fails by speaking."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    printed = (done.stdout + done.stderr).split("\n")
    if done.returncode == 0 and not says_nothing:
        return []
    lines = [line for line in printed if line.strip()]
    return lines or ([f"{command[0]} failed with exit status {done.returncode}"] if done.returncode else [])


if __name__ == "__main__":
    sys.exit(main())
