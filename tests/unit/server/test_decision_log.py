from scheduler.commands import Dispatch, Notice, Park, Reject, RejectCause, Start
from server.decision_log import Decision, DecisionLog


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_commands_to_workers_and_notices_are_kept_with_time_and_reason() -> None:
    log = DecisionLog(Clock())
    log.take(Park("w", "idle for 9 s"))
    log.take(Start("w", "the queue grows"))
    log.take(Notice("w", "slow", "it is slow"))
    assert log.decisions() == [
        Decision(3.0, "notice:slow", "w", "it is slow"),
        Decision(2.0, "start", "w", "the queue grows"),
        Decision(1.0, "park", "w", "idle for 9 s"),
    ]


def test_dispatches_are_counted_by_their_reason_only() -> None:
    log = DecisionLog(Clock())
    for reason in ("fill", "fill", "spill"):
        log.take(Dispatch("secret-id", "w", reason))
    assert log.dispatches_by_reason() == {"fill": 2, "spill": 1}
    assert log.decisions() == []


def test_a_flood_of_refusals_hides_no_decision_and_is_bounded() -> None:
    log = DecisionLog(Clock())
    log.take(Park("w", "idle"))
    for _ in range(1000):
        log.take(Reject("secret-id", RejectCause.QUEUE_FULL, "waiting: 9, allowed: 9", 3))
    assert len(log.decisions()) == 1
    assert len(log.refusals()) == 100
    assert log.refusals()[0] == Decision(1001.0, "reject:queue_full", None, "waiting: 9, allowed: 9")
    assert log.refusals_by_cause() == {"queue_full": 1000}


def test_nothing_a_caller_wrote_is_repeated() -> None:
    log = DecisionLog(Clock())
    log.take(Reject("secret-id", RejectCause.UNKNOWN_MODEL, "the model 'my secret' is not served here", None))
    assert "secret" not in repr(log.refusals())
