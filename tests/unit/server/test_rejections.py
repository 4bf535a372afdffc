import pytest

from scheduler.commands import Reject, RejectCause
from server.rejections import api_error

STATUS = {
    RejectCause.QUEUE_FULL: 429,
    RejectCause.QUEUE_TIMEOUT: 503,
    RejectCause.DEADLINE_PASSED: 408,
    RejectCause.UNKNOWN_MODEL: 404,
    RejectCause.NO_WORKER: 503,
    RejectCause.WORKERS_LOST: 503,
    RejectCause.DRAINING: 503,
}

CODE = {RejectCause.UNKNOWN_MODEL: "model_not_found", RejectCause.WORKERS_LOST: "no_worker"}


@pytest.mark.parametrize("retry_after_seconds", [None, 1, 37])
@pytest.mark.parametrize("cause", RejectCause)
def test_every_refusal_has_its_status_and_its_reason(cause: RejectCause, retry_after_seconds: int | None) -> None:
    error = api_error(Reject("r", cause, "why", retry_after_seconds))
    assert (error.status, error.message) == (STATUS[cause], "why")
    assert error.code == CODE.get(cause, cause.value)
    assert error.param == ("model" if cause is RejectCause.UNKNOWN_MODEL else None)


@pytest.mark.parametrize("cause", RejectCause)
def test_who_may_come_back_is_told_when(cause: RejectCause) -> None:
    said = api_error(Reject("r", cause, "why", 37)).headers.get("Retry-After")
    unsaid = api_error(Reject("r", cause, "why", None)).headers.get("Retry-After")
    if STATUS[cause] in {429, 503}:
        assert said == "37"
        assert unsaid is not None
        assert int(unsaid) >= 1
    else:
        assert said is unsaid is None


@pytest.mark.parametrize("cause", RejectCause)
def test_only_a_missed_deadline_is_not_to_be_tried_again(cause: RejectCause) -> None:
    told = api_error(Reject("r", cause, "why", None)).headers.get("x-should-retry")
    assert told == ("false" if cause is RejectCause.DEADLINE_PASSED else None)
