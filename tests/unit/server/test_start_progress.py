"""What is said while engines start: who is waited for, and what it is doing."""

import logging

import pytest

from server.start_progress import EngineLines, waiting_text

VLLM_LINES = (
    ("INFO 11-27 [cpu_model_runner.py:68] Starting to load model /models/smollm2...", "loading the weights"),
    ("INFO 11-27 [default_loader.py:502] Loading weights took 0.31 seconds", "preparing the model"),
    ("INFO 11-27 [monitor.py:40] Starting torch.compile", "compiling"),
    ("INFO 11-27 [kv_cache_utils.py:1] CPU KV cache size: 21,000 tokens", "warming up"),
    ("INFO 11-27 [cpu_model_runner.py:87] Warming up model for the compilation...", "warming up"),
    ("INFO 11-27 [core.py:403] init engine (profile, create kv cache, warmup model) took 9.1 s", "opening its API"),
)


@pytest.mark.parametrize(("line", "phase"), VLLM_LINES)
def test_the_engines_own_lines_tell_how_far_it_is(line: str, phase: str) -> None:
    lines = EngineLines(logging.getLogger("test"))
    lines("vllm-0", "something else")
    assert lines.phase("vllm-0") == "loading"
    lines("vllm-0", line)
    lines("vllm-0", "something else")
    assert lines.phase("vllm-0") == phase
    assert lines.phase("vllm-1") == "loading"


def test_workers_are_named_by_what_they_do() -> None:
    phases = {"a": "loading", "b": "warming up", "c": "warming up"}
    said = waiting_text(["a", "b", "c"], phases.__getitem__, 20.4)
    assert said == "loading a; loading b, c (warming up): 20 s"
