import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.vllm_engine import divide_cores, divide_gpus, vllm_command, vllm_environ

SOCKET = Path("/tmp/w/engine.sock")


def test_the_operators_arguments_come_last_so_that_they_win() -> None:
    extra = ("--max-model-len", "4096", "--served-model-name", "mine")
    for device in ("cpu", "cuda"):
        command = vllm_command("/models/x", "x", device, extra, SOCKET)
        assert command[-len(extra) :] == extra
        assert command[: -len(extra)] == vllm_command("/models/x", "x", device, (), SOCKET)


def test_the_command_names_model_socket_and_meter() -> None:
    command = vllm_command("/models/x", "x", "cuda", (), SOCKET)
    options = dict(itertools.pairwise(command))
    assert (options["--model"], options["--served-model-name"], options["--uds"]) == ("/models/x", "x", str(SOCKET))
    assert options["--middleware"] == "metering.vllm_plugin.EnergyMiddleware"
    assert options["-m"] == "vllm.entrypoints.openai.api_server"
    assert "--enforce-eager" not in command
    assert "--enforce-eager" in vllm_command("/models/x", "x", "cpu", (), SOCKET)


def test_the_environment_adds_to_the_operators_and_overrides_nothing_of_theirs() -> None:
    own = {"PATH": "/bin", "VLLM_CPU_KVCACHE_SPACE": "8", "VLLM_NO_USAGE_STATS": "0"}
    environ = vllm_environ(own, "vllm-1", "estimate", "cpu", (2, 3))
    assert own.items() <= environ.items()
    assert environ["VLLM_CPU_OMP_THREADS_BIND"] == "2,3"
    assert (environ["WATTLINE_METER"], environ["WATTLINE_WORKER_ID"]) == ("estimate", "vllm-1")
    assert own == {"PATH": "/bin", "VLLM_CPU_KVCACHE_SPACE": "8", "VLLM_NO_USAGE_STATS": "0"}, "a copy was changed"


def test_a_gpu_worker_gets_no_cpu_settings() -> None:
    environ = vllm_environ({}, "vllm-0", "auto", "cuda", None)
    assert not [name for name in environ if name.startswith("VLLM_CPU") or name == "LD_PRELOAD"]


CORES = st.sets(st.integers(0, 255), min_size=1, max_size=64)


@given(workers=st.integers(2, 64), cores=CORES)
def test_cores_are_shared_evenly_and_none_is_invented(workers: int, cores: set[int]) -> None:
    shares = divide_cores(workers, sorted(cores))
    assert len(shares) == workers
    given_out = [core for share in shares if share is not None for core in share]
    assert set(given_out) <= cores
    assert len({len(share) for share in shares if share is not None}) == 1
    assert None not in shares
    if workers <= len(cores):
        assert len(given_out) == len(set(given_out)), "no core is given twice"
        assert len(given_out) > len(cores) - workers


def test_a_workers_cores_are_neighbours() -> None:
    assert divide_cores(2, [7, 1, 4, 0]) == [(0, 1), (4, 7)]
    assert divide_cores(3, [0, 1]) == [(0,), (1,), (0,)]


def test_a_lone_worker_is_not_bound() -> None:
    assert divide_cores(1, [0, 1]) == [None]


@pytest.mark.parametrize(
    ("wanted", "devices", "expected"),
    [
        ([None], ["2", "3"], ["2,3"]),
        ([None] * 2, ["4", "5"], ["4", "5"]),
        ([None] * 2, ["4", "5", "6", "7"], ["4,5", "6,7"]),
        ([None] * 2, ["4", "5", "6"], ["4", "5"]),
        ([None] * 2, ["GPU-a", "GPU-b"], ["GPU-a", "GPU-b"]),
        ([1, 1], ["4", "5", "6"], ["4", "5"]),
        ([2, 1], ["4", "5", "6"], ["4,5", "6"]),
        ([None, 4, None], [str(index) for index in range(8)], ["0,1", "2,3,4,5", "6,7"]),
        ([], ["0"], []),
    ],
)
def test_gpus_are_dealt_out_in_neighbouring_runs(
    wanted: list[int | None], devices: list[str], expected: list[str]
) -> None:
    assert divide_gpus(wanted, devices) == expected
