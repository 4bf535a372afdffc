"""An engine that cannot start tells the operator why, in its own words."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.figures import show
from tests.e2e.wattline_process import WATTLINE, clean_environ

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_engine_that_cannot_start_is_quoted(checkpoint: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken-model"
    shutil.copytree(checkpoint, broken, ignore=shutil.ignore_patterns("*.safetensors"))
    (broken / "config.json").write_text('{"model_type": "no-such-architecture"}')
    started = time.monotonic()
    ended = subprocess.run(
        [str(WATTLINE), "serve", str(broken), "--port", "0", "--meter", "estimate"],
        env=clean_environ(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    show(f"ended after {time.monotonic() - started:.1f} s:\n{ended.stderr}")
    assert ended.returncode == 1
    assert "wattline: error: vllm-0 ended with exit code" in ended.stderr
    quoted = [line.removeprefix("  | ") for line in ended.stderr.splitlines() if line.startswith("  | ")]
    assert quoted
    assert "no-such-architecture" in "\n".join(quoted)
    assert "ready after" not in ended.stderr
