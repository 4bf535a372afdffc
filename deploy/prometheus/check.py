"""`python -m deploy.prometheus.check`: what promtool says of the configuration, the rules and the rules' tests."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent


def commands(promtool: str, folder: Path = _FOLDER) -> Iterator[list[str]]:
    """What is to be run, each of which must succeed."""
    rules, tests = (sorted(map(str, (folder / name).glob("*.yml"))) for name in ("rules", "tests"))
    yield [promtool, "check", "config", str(folder / "prometheus.yml")]
    yield [promtool, "check", "rules", *rules]
    yield [promtool, "test", "rules", *tests]


def main() -> int:
    """The exit status: 0 if all is well or promtool is not installed, which is said."""
    promtool = shutil.which("promtool")
    if promtool is None:
        sys.stdout.write("skipped: promtool is not installed (Debian's package prometheus has it)\n")
        return 0
    for command in commands(promtool):
        ran = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if ran.returncode != 0:
            sys.stdout.write(f"{' '.join(command)}\n{ran.stdout}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
