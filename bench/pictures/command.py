"""The command: what to take pictures of, and what is left out where this machine lacks something."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.children import PROJECT_FOLDER, ended_by_sigterm
from bench.pictures import terminal
from bench.pictures.screens import take_screens
from bench.pictures.stage import stage
from bench.pictures.traffic import Caller, traffic

KEY_VARIABLE: Final = "WATTLINE_API_KEY"
_TOP_SECONDS: Final = 25
# The study of docs/scheduling.md, whose plot it is.
_STUDY: Final = (
    *("--gpu", "h100", "--model", "llama-3.1-8b", "--gpus", "8", "--rate-scale", "4"),
    *("--slo-ttft-seconds", "1", "--slo-tpot-seconds", "0.05", "--compare", "round-robin"),
)


def main() -> int:
    """Take the pictures; 0 once they are there."""
    given = _parser().parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with ended_by_sigterm():
        if given.url is not None:
            key = os.environ.get(KEY_VARIABLE)
            with traffic(given.url, {seed: Caller(key, "default", 5.0) for seed in range(4)}):
                _take(given.url, key, given.out, given.seconds)
        else:
            _of_our_own(given.out, given.seconds, is_fake=given.fake)
    if given.trace is None:
        print("no picture of the savings: name the trace to replay with --trace")
    else:
        _savings(given.trace, given.out / "savings.png")
    return 0


def _of_our_own(folder: Path, seconds: float, *, is_fake: bool) -> None:
    print("starting a server ...")
    with stage(is_fake=is_fake) as running:
        if running.terminal is None:
            print("no picture of the start: tmux is not installed")
        with traffic(running.url, running.callers):
            _take(running.url, running.admin_key, folder, seconds)
        if running.terminal is not None:
            running.terminal.interrupt()
            file = folder / "serve.svg"
            terminal.draw(running.terminal.shown(), file, "wattline serve")
            _tell(file)


def _take(url: str, key: str | None, folder: Path, seconds: float) -> None:
    for file in take_screens(url, key, folder, seconds):
        _tell(file)
    file = folder / "top.svg"
    command = [sys.executable, "-m", "server.top.picture", "screen", url, str(file), "--seconds", str(_TOP_SECONDS)]
    environ = os.environ if key is None else os.environ | {KEY_VARIABLE: key}
    subprocess.run(command, check=True, cwd=PROJECT_FOLDER, env=environ)
    _tell(file)


def _savings(trace: Path, file: Path) -> None:
    command = [sys.executable, "-m", "bench.simulation", "--trace", str(trace.resolve()), *_STUDY]
    subprocess.run([*command, "--plot", str(file.resolve())], check=True, cwd=PROJECT_FOLDER)
    _tell(file)


def _tell(file: Path) -> None:
    print(f"{file} ({file.stat().st_size / 1000:.0f} kB)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.pictures", description=__doc__)
    parser.add_argument("--url", help=f"a server that runs already; {KEY_VARIABLE} holds an administrator's key")
    parser.add_argument("--fake", action="store_true", help="start a server over fake engines, not over vLLM")
    parser.add_argument("--out", type=Path, default=PROJECT_FOLDER / "docs" / "pictures", metavar="FOLDER")
    parser.add_argument("--seconds", type=float, default=75.0, help="how long to watch before the pictures [75]")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="replay this trace for the picture of the savings")
    return parser
