"""How a machine is shared out between the workers of several models. Nothing is started."""

import os
from collections.abc import Sequence

import pytest

from metering.choice import ENGINES_ON_HOST_KEY
from server.engines import PlannedEngine, _gpu_shares, plan_engines
from server.errors import StartError
from server.host_gpus import HostGpus
from server.model_settings import ModelSettings
from server.served_models import ServedModel
from workers.child_engine import ChildEngine
from workers.remote_engine import RemoteEngine


def started(name: str, workers: int, device: str = "cpu") -> ServedModel:
    ids = tuple(f"{name}-{index}" for index in range(workers))
    settings = ModelSettings.model_validate({"name": name, "workers": workers})
    return ServedModel(settings, f"/models/{name}", (name,), ids, device, "")


def plan(*models: ServedModel) -> list[PlannedEngine]:
    return plan_engines(models, "estimate", lambda _worker_id, _line: None)


def test_cores_are_divided_over_the_workers_of_all_models() -> None:
    planned = plan(started("a", 2), started("b", 1))
    assert [(one.engine.worker_id, one.model.names, one.hardware) for one in planned] == [
        ("a-0", ("a",), "cpu"),
        ("a-1", ("a",), "cpu"),
        ("b-0", ("b",), "cpu"),
    ]
    cores = [one.engine._cores for one in planned if isinstance(one.engine, ChildEngine)]
    assert len(cores) == 3
    assert {core for share in cores for core in share or ()} <= os.sched_getaffinity(0)
    assert None not in cores


def test_each_worker_knows_how_many_share_the_host_and_what_it_serves() -> None:
    attached = ModelSettings.model_validate({"worker_urls": ["http://a"]})
    remote = ServedModel(attached, None, (), ("remote-0",), "auto", "")
    first, other, second = plan(started("a", 1), remote, started("b", 1))
    assert isinstance(other.engine, RemoteEngine)
    assert other.hardware == "unknown"
    for one, name in ((first, "a"), (second, "b")):
        assert isinstance(one.engine, ChildEngine)
        assert one.engine._environ[ENGINES_ON_HOST_KEY] == "2"
        assert one.engine._environ["WATTLINE_WORKER_ID"] == f"{name}-0"


GPUS = HostGpus(["NVIDIA H100"] * 4)


@pytest.mark.parametrize(
    ("wanted", "shares"),
    [
        ([None], [None]),
        ([2], ["0,1"]),
        ([None, None], ["0,1", "2,3"]),
        ([None, 3], ["0", "1,2,3"]),
        ([], []),
    ],
)
def test_gpus_go_first_to_those_who_want_a_number(
    wanted: Sequence[int | None], shares: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert _gpu_shares(wanted, GPUS) == shares


def test_too_few_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert _gpu_shares([1, None], GPUS) == ["2", "3"]
    with pytest.raises(StartError, match=r"this machine shows 2 GPU\(s\), and they need 3"):
        _gpu_shares([2, None], GPUS)
