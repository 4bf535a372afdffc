import logging

import pytest

from scheduler.commands import Dispatch, Notice, Park, Reject, RejectCause, Start
from server.command_sink import CommandSink
from server.decision_log import DecisionLog
from server.metrics import ServerMetrics


class Worker:
    def __init__(self) -> None:
        self.is_parked = False

    def park(self) -> None:
        self.is_parked = True

    def unpark(self) -> None:
        self.is_parked = False


@pytest.fixture
def metrics() -> ServerMetrics:
    return ServerMetrics()


@pytest.fixture
def log() -> DecisionLog:
    return DecisionLog(lambda: 0.0)


def test_workers_are_parked_and_started_and_it_is_counted(metrics: ServerMetrics, log: DecisionLog) -> None:
    workers = {"a": Worker(), "b": Worker()}
    sink = CommandSink(workers, metrics, log)
    sink.take(Park("a", "idle"))
    assert (workers["a"].is_parked, workers["b"].is_parked) == (True, False)
    sink.take(Park("b", "idle"))
    sink.take(Start("a", "needed"))
    assert (workers["a"].is_parked, workers["b"].is_parked) == (False, True)
    page = metrics.render([]).decode()
    assert 'wattline_worker_commands_total{command="park",worker="a"} 1.0' in page
    assert 'wattline_worker_commands_total{command="start",worker="a"} 1.0' in page
    assert [decision.command for decision in log.decisions()] == ["start", "park", "park"]


def test_a_notice_is_a_warning(metrics: ServerMetrics, log: DecisionLog, caplog: pytest.LogCaptureFixture) -> None:
    CommandSink({}, metrics, log).take(Notice("a", "target_impossible", "its best step takes 60 ms"))
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.WARNING,
        "target_impossible: worker a: its best step takes 60 ms",
    )


def test_what_became_of_requests_is_counted(metrics: ServerMetrics, log: DecisionLog) -> None:
    sink = CommandSink({}, metrics, log)
    sink.take(Dispatch("r", "a", "fill"))
    sink.take(Reject("r", RejectCause.QUEUE_FULL, "full", 1))
    assert 'wattline_dispatches_total{reason="fill",worker="a"} 1.0' in metrics.render([]).decode()
    assert log.refusals_by_cause() == {"queue_full": 1}


def test_every_tier_has_a_gauge(metrics: ServerMetrics) -> None:
    page = metrics.render([("flex", 3)]).decode()
    assert 'wattline_queue_requests{tier="flex"} 3.0' in page
    assert 'wattline_queue_requests{tier="priority"} 0.0' in page
