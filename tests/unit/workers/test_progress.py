"""When a worker that owes answers is called hung, and when its silence means nothing."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from scheduler.events import WorkReport
from workers.progress import AwaitedAnswer, WorkerProgress

WORK = WorkReport(steps=10, step_seconds=0.5, decode_tokens=40, prefill_tokens=100, energy_joules=7.0)


class Watched:
    """A worker that is asked about once a second, as the roster does."""

    def __init__(self, stall_seconds: float = 60.0) -> None:
        self.progress = WorkerProgress(stall_seconds)
        self.now_seconds = 1000.0
        self.progress.started(self.now_seconds)

    def send(self) -> AwaitedAnswer:
        answer = AwaitedAnswer(self.progress, lambda: self.now_seconds)
        self.look()
        return answer

    def look(self) -> None:
        assert self.progress.is_hung(self.now_seconds) is None

    def report(self, work: WorkReport | None = WORK) -> None:
        self.progress.reported(work, self.now_seconds)

    def after(self, seconds: int, works: Iterable[WorkReport] = ()) -> str | None:
        """The verdict once that has passed; a report each second while there are any."""
        reports = iter(works)
        for _ in range(seconds):
            self.now_seconds += 1.0
            if (work := next(reports, None)) is not None:
                self.report(work)
            if (cause := self.progress.is_hung(self.now_seconds)) is not None:
                return cause
        return None


@pytest.fixture
def worker() -> Watched:
    return Watched()


def test_an_engine_that_stands_still_under_requests_is_hung_with_its_figures(worker: Watched) -> None:
    worker.report()
    worker.send()
    worker.send()
    assert worker.after(59) is None
    cause = worker.after(1)
    assert cause is not None
    assert "60.0 s" in cause
    assert "2 request(s)" in cause
    assert "10 steps, 40 decode tokens and 100 prefill tokens" in cause


def test_an_idle_worker_is_never_hung(worker: Watched) -> None:
    worker.report()
    assert worker.after(1000) is None
    worker.send().end()
    assert worker.after(1000) is None


def test_the_wait_begins_with_the_first_request_and_not_before(worker: Watched) -> None:
    worker.report()
    assert worker.after(500) is None
    worker.send()
    assert worker.after(59) is None
    assert worker.after(1) is not None


@pytest.mark.parametrize("field", ["steps", "decode_tokens", "prefill_tokens"])
def test_any_total_that_rises_is_progress(worker: Watched, field: str) -> None:
    worker.report()
    worker.send()
    assert worker.after(200, (replace(WORK, **{field: 1000 + second}) for second in range(200))) is None
    assert worker.after(60) is not None


def test_energy_that_rises_is_none(worker: Watched) -> None:
    worker.report()
    worker.send()
    assert worker.after(60, (replace(WORK, energy_joules=float(second)) for second in range(60))) is not None


def test_a_byte_of_any_answer_is_progress(worker: Watched) -> None:
    worker.report()
    worker.send()
    other = worker.send()
    assert worker.after(50) is None
    other.headers_received(is_answer=True)
    assert worker.after(50) is None
    other.piece_received()
    other.next_awaited()
    worker.look()
    assert worker.after(59) is None
    assert worker.after(1) is not None


def test_headers_of_streams_and_refusals_are_no_progress(worker: Watched) -> None:
    worker.report()
    worker.send()
    for _ in range(5):
        assert worker.after(10) is None
        worker.send().headers_received(is_answer=False)
    assert worker.after(10) is not None


def test_they_prove_that_a_worker_answers_which_does_not_say_what_it_does(worker: Watched) -> None:
    worker.send()
    assert worker.after(50) is None
    worker.send().headers_received(is_answer=False)
    assert worker.after(59) is None
    assert worker.after(1) is not None


def test_callers_who_give_up_are_no_progress(worker: Watched) -> None:
    worker.report()
    worker.send()
    for _ in range(5):
        impatient = worker.send()
        assert worker.after(10) is None
        impatient.end()
    assert worker.after(10) is not None


def test_a_caller_that_takes_nothing_is_not_the_workers_fault(worker: Watched) -> None:
    worker.report()
    answer = worker.send()
    answer.piece_received()
    assert worker.after(300) is None
    answer.next_awaited()
    worker.look()
    assert worker.after(59) is None
    assert worker.after(1) is not None


def test_silence_proves_nothing_of_a_worker_that_does_not_say_what_it_does(worker: Watched) -> None:
    worker.send()
    for _ in range(300):
        worker.now_seconds += 1.0
        assert worker.progress.needs_probe
        worker.progress.probe_answered(worker.now_seconds)
        assert worker.progress.is_hung(worker.now_seconds) is None
    assert worker.after(59) is None
    assert "nor did it answer a probe" in str(worker.after(1))


def test_of_such_a_worker_a_stream_that_has_begun_must_go_on(worker: Watched) -> None:
    answer = worker.send()
    answer.piece_received()
    answer.next_awaited()
    worker.look()
    assert not worker.progress.needs_probe
    assert worker.after(59) is None
    worker.progress.probe_answered(worker.now_seconds)
    assert worker.after(1) is not None
    answer.end()
    worker.send()
    assert worker.progress.needs_probe


def test_time_in_which_nobody_looked_proves_nothing(worker: Watched) -> None:
    worker.report()
    worker.send()
    assert worker.after(30) is None
    worker.now_seconds += 3600.0  # we were stopped, and have not read yet what came meanwhile
    assert worker.progress.is_hung(worker.now_seconds) is None
    assert worker.after(59) is None
    assert worker.after(1) is not None


def test_a_new_life_starts_with_a_clean_slate(worker: Watched) -> None:
    worker.report()
    answer = worker.send()
    assert worker.after(60) is not None
    worker.progress.started(worker.now_seconds)
    assert worker.progress.is_hung(worker.now_seconds) is None
    answer.end()
    answer.end()
    assert worker.after(1000) is None


def test_the_limit_is_a_setting() -> None:
    worker = Watched(stall_seconds=5.0)
    worker.report()
    worker.send()
    assert worker.after(4) is None
    assert worker.after(1) is not None


def test_one_impatient_caller_after_the_other_makes_one_long_wait(worker: Watched) -> None:
    worker.report()
    answer = worker.send()
    for _ in range(5):
        assert worker.after(10) is None
        answer.end()
        answer = worker.send()
    assert worker.after(9) is None
    assert worker.after(1) is not None
