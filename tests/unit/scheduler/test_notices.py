"""What the operator is told: once for each worker and matter, in words that are true."""

from math import nan

import pytest

from scheduler.commands import Notice
from scheduler.core import Scheduler
from scheduler.energy_policy import FillBeforeSpill
from scheduler.events import WorkerReady, WorkerReported, WorkReport
from scheduler.limits import SchedulerLimits
from scheduler.notices import Notices
from scheduler.targets import LatencyTargets
from scheduler.worker import Worker
from tests.contract.workers import Load, worker_of
from tests.unit.scheduler.known_engine import KnownEngine

POSSIBLE, IMPOSSIBLE = LatencyTargets(), LatencyTargets(1.0, 0.001)


def a_worker(worker_id: str = "w1", hardware: str = "h100") -> Worker:
    return worker_of(Load(worker_id, hardware=hardware), 1)


def test_of_a_worker_that_can_keep_the_targets_there_is_nothing_to_say() -> None:
    assert Notices(POSSIBLE).of(a_worker()) == []


def test_a_target_that_the_hardware_is_believed_to_miss_is_named_with_its_numbers() -> None:
    [notice] = Notices(IMPOSSIBLE).of(a_worker())
    assert (notice.worker_id, notice.code) == ("w1", "tpot_target_impossible")
    assert "believed to take (h100, not measured yet)" in notice.reason
    assert "0.0069 s" in notice.reason
    assert "0.0010 s" in notice.reason


def test_a_target_that_the_engine_was_seen_to_miss_is_not_said_to_be_believed() -> None:
    worker, engine = a_worker(), KnownEngine()
    for second in range(60):
        worker.model.observe(engine.work(1.0, 1), 1, float(second))
    [notice] = Notices(IMPOSSIBLE).of(worker)
    assert "believed" not in notice.reason
    told_seconds = float(notice.reason.split(" takes ")[1].split(" s")[0])
    assert told_seconds == pytest.approx(engine.step_seconds(1), rel=0.05)


def test_each_matter_is_told_once_for_each_worker() -> None:
    notices = Notices(IMPOSSIBLE)
    first, second = a_worker("w1"), a_worker("w2")
    assert len(notices.of(first)) == 1
    assert notices.of(first) == []
    assert len(notices.of(second)) == 1
    first.model.observe(WorkReport(1, nan, 1, 1), 1, 1.0)
    assert [notice.code for notice in notices.of(first)] == ["telemetry_unusable"]
    assert notices.of(first) == []


def test_telemetry_that_cannot_be_used_is_named_with_what_is_wrong_about_it() -> None:
    worker = a_worker()
    worker.model.observe(WorkReport(-3, 1.0, 1, 1), 1, 1.0)
    [notice] = Notices(POSSIBLE).of(worker)
    assert "steps is -3" in notice.reason


def test_the_core_tells_it_when_a_worker_becomes_ready_and_when_it_reports() -> None:
    core = Scheduler(FillBeforeSpill(IMPOSSIBLE), SchedulerLimits(), frozenset({"m"}), IMPOSSIBLE)
    ready = WorkerReady("w1", frozenset({"m"}), 8, "h100")
    [told] = core.handle(ready, 0.0)
    assert isinstance(told, Notice)
    assert told.code == "tpot_target_impossible"
    [told] = core.handle(WorkerReported("w1", 0, 0, WorkReport(0, 0.0, 0, 0, -1.0)), 1.0)
    assert isinstance(told, Notice)
    assert told.code == "telemetry_unusable"
    assert core.handle(WorkerReported("w1", 0, 0, WorkReport(0, 0.0, 0, 0, -1.0)), 2.0) == []
    assert core.handle(ready, 3.0) == []
