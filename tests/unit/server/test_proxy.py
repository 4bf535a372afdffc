"""What becomes of requests that end in unusual ways: ledger, metrics, budgets and caller are to agree."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from metering.block import encode_block
from scheduler.core import Scheduler
from scheduler.driver import SchedulerDriver
from scheduler.events import WorkerReady
from scheduler.least_loaded import LeastLoaded
from scheduler.limits import SchedulerLimits
from server import stall_watch
from server.access.tenants import TenantSettings
from server.api_error import ApiError
from server.context_limit import ContextLimits
from server.ledger.ledger import NoLedger
from server.ledger.row import LedgerRow
from server.ledger_of_aborts import LedgerOfAborts
from server.live.tally import LiveTally
from server.metrics import ServerMetrics
from server.model_names import ModelNames
from server.proxy import Proxy
from server.request_books import RequestBooks
from server.roster import Roster
from server.serving import Serving
from server.stored_responses import StoredResponses
from server.tracing import NoTracing
from tests.hand_turned_gate import HandTurnedGate
from workers.client import EngineClient
from workers.engine_connection import EngineAnswer
from workers.progress import AwaitedAnswer, WorkerProgress

PATH = "/v1/completions"
BLOCK: dict[str, Any] = {"energy_joules": 3.0, "source": "nvml", "measured": True}
WHOLE = b'{"id":"1","energy":' + encode_block(BLOCK) + b"}"
CHUNK = b'data: {"choices":[{"text":"a"}]}\n\n'
END = b": energy " + encode_block(BLOCK) + b"\n\ndata: [DONE]\n\n"


class Answer:
    """An engine's answer in pieces; each waits until it is let through."""

    def __init__(self, status: int, kind: bytes, pieces: Sequence[bytes]) -> None:
        self.status = status
        self.raw_headers = [(b"content-type", kind)]
        self.pieces = list(pieces)
        self.has_hung = False

    @property
    def content(self) -> "Answer":
        return self

    async def readany(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    async def read(self) -> bytes:
        return b"".join(self.pieces)

    async def iter_any(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece

    def release(self) -> None: ...

    def close(self) -> None:
        self.has_hung = True


class OneWorker:
    """A roster of one worker, `w`, that serves `m`, gives one answer and is its own client."""

    def __init__(self, answer: Answer) -> None:
        self.stored = StoredResponses()
        self.models = frozenset({"m"})
        self.asked_as: list[str] = []
        self.answer = answer

    def members(self) -> list["OneWorker"]:
        return [self]

    ready = members

    def client(self, _worker_id: str) -> EngineClient:
        return cast("EngineClient", self)

    async def send(self, _method: str, _target: str, headers: Sequence[tuple[str, str]], _body: bytes) -> EngineAnswer:
        self.asked_as.append(dict(headers)["x-request-id"])
        return cast("EngineAnswer", self.answer)

    def sent(self, _worker_id: str) -> AwaitedAnswer:
        return AwaitedAnswer(WorkerProgress(), lambda: 0.0)

    def is_metered(self, _worker_id: str) -> bool:
        return True

    def meter_of(self, _worker_id: str) -> tuple[str | None, bool]:
        return "nvml", True

    def charge_soon(self, _worker_id: str) -> None:
        """Its word comes when the test says so."""

    def is_served_elsewhere(self, _model: str, _but: Sequence[str]) -> bool:
        return False

    async def has_died(self, _worker_id: str) -> bool:
        return False


class SlowLedger(NoLedger):
    """Keeps rows in memory, and says that it has once `may_tell` is set."""

    def __init__(self) -> None:
        self.rows: list[LedgerRow] = []
        self.charges: list[tuple[str, int]] = []
        self.may_tell = asyncio.Event()
        self.may_tell.set()
        self.is_asked = asyncio.Event()

    async def record(self, row: LedgerRow) -> None:
        self.rows.append(row)
        self.is_asked.set()
        await self.may_tell.wait()

    def charge(self, row_id: str, energy_microjoules: int) -> None:
        self.charges.append((row_id, energy_microjoules))


class Caller:
    """One caller's connection. `takes` may be cleared to let an answer wait, `leave` hangs up."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.takes = asyncio.Event()
        self.takes.set()
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def ask(self, body: dict[str, Any]) -> None:
        self._messages.put_nowait({"type": "http.request", "body": json.dumps(body).encode()})

    def leave(self) -> None:
        self._messages.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> dict[str, Any]:
        return await self._messages.get()

    async def send(self, message: Any) -> None:  # an ASGI message
        await self.takes.wait()
        self.sent.append(message)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])


class Served:
    """A proxy over one worker and one ledger."""

    def __init__(self, answer: Answer, **limits: Any) -> None:  # of whatever type each limit is
        self.roster = OneWorker(answer)
        self.ledger = SlowLedger()
        self.metrics = ServerMetrics()
        self.gate = HandTurnedGate({"anonymous": TenantSettings(**limits)})
        books = RequestBooks(self.ledger, self.metrics, LiveTally(time.monotonic))
        self.aborts = LedgerOfAborts(books.charge)
        driver = SchedulerDriver(Scheduler(LeastLoaded(), SchedulerLimits(), frozenset({"m"})), lambda: 0.0)
        driver.tell(WorkerReady("w", self.roster.models, 8))
        roster = cast("Roster", self.roster)
        serving = Serving(driver, roster, self.aborts, books, NoTracing())
        limits_of_context = ContextLimits(lambda _model: (), lambda: 0.0)
        self.proxy = Proxy(serving, limits_of_context, self.gate.gate, ModelNames((), roster), 1_000_000)
        self.books = books

    async def serve(self, caller: Caller, path: str) -> None:
        headers = [(b"content-type", b"application/json"), (b"x-request-id", b"r")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
        }
        await self.proxy(scope, caller.receive, caller.send)
        await self.books.kept()

    def begin(self, caller: Caller, *, stream: bool, path: str = PATH) -> asyncio.Task[None]:
        caller.ask({"model": "m", "prompt": "p", "stream": stream})
        return asyncio.create_task(self.serve(caller, path))

    def counted(self, outcome: str) -> float:
        labels = {"endpoint": PATH, "model": "m", "tier": "default", "outcome": outcome}
        return self.metrics.registry.get_sample_value("wattline_requests_total", labels) or 0.0

    @property
    def charged_joules(self) -> float:
        labels = {"tenant": "anonymous", "model": "m", "tier": "default"}
        return self.metrics.registry.get_sample_value("wattline_tenant_energy_joules_total", labels) or 0.0

    @property
    def spent_joules(self) -> float:
        (usage,) = self.gate.gate.usage()
        return usage.budgets[0].spent_microjoules / 1e6


def json_answer(body: bytes, status: int = 200) -> Answer:
    return Answer(status, b"application/json", [body])


def stream_of(*pieces: bytes) -> Answer:
    return Answer(200, b"text/event-stream", pieces)


@pytest.mark.parametrize("body", [WHOLE, b'{"id":"1"}'])
async def test_who_leaves_while_the_ledger_takes_the_row_is_counted_as_the_row_says(body: bytes) -> None:
    served, caller = Served(json_answer(body), energy_joules_per_day=9.0), Caller()
    served.ledger.may_tell.clear()
    serving = served.begin(caller, stream=False)
    await served.ledger.is_asked.wait()
    caller.leave()
    await serving
    (row,) = served.ledger.rows
    assert (row.outcome, row.status, served.counted("completed")) == ("completed", 200, 1)
    assert caller.sent == []


async def test_who_leaves_while_the_row_of_a_refusal_is_taken_is_no_error_of_ours() -> None:
    served, caller = Served(json_answer(b'{"error":{"message":"no"}}', 400)), Caller()
    served.ledger.may_tell.clear()
    serving = served.begin(caller, stream=False)
    await served.ledger.is_asked.wait()
    caller.leave()
    await serving
    assert (served.ledger.rows[0].outcome, served.counted("refused")) == ("refused", 1)


async def test_the_end_of_the_server_leaves_alone_what_waits_for_the_ledger_only() -> None:
    served, caller = Served(json_answer(WHOLE), energy_joules_per_day=9.0), Caller()
    served.ledger.may_tell.clear()
    serving = served.begin(caller, stream=False)
    await served.ledger.is_asked.wait()
    served.proxy.interrupt(ApiError(503, "the server is stopping", "draining"))
    served.aborts.charged("r", 3.0)
    served.ledger.may_tell.set()
    await serving
    assert [message.get("status") for message in caller.sent] == [200, None]
    assert (served.counted("completed"), served.ledger.rows[0].status) == (1, 200)
    assert (served.charged_joules, served.spent_joules, served.ledger.charges) == (3.0, 3.0, [])


async def test_what_a_worker_told_of_a_slow_taker_is_charged_when_he_leaves() -> None:
    served, caller = Served(stream_of(CHUNK, CHUNK, END), energy_joules_per_day=9.0), Caller()
    caller.takes.clear()
    serving = served.begin(caller, stream=True)
    await asyncio.sleep(0.01)
    served.aborts.charged("r", 3.0)  # the engine has long ended it
    caller.leave()
    await serving
    (row,) = served.ledger.rows
    assert (row.outcome, row.status, row.energy_source, row.is_measured) == ("aborted", 499, "nvml", True)
    assert served.ledger.charges == [(row.row_id, 3_000_000)]
    assert (served.charged_joules, served.spent_joules) == (3.0, 3.0)
    assert served.gate.used() == (0, 0)


async def test_an_id_that_comes_again_is_not_charged_for_the_request_before() -> None:
    served = Served(json_answer(WHOLE), energy_joules_per_day=9.0)
    await served.begin(Caller(), stream=False)
    served.roster.answer = stream_of(CHUNK, CHUNK, END)
    caller = Caller()
    caller.takes.clear()
    serving = served.begin(caller, stream=True)
    await asyncio.sleep(0.01)
    caller.leave()
    await serving
    first, second = served.roster.asked_as
    assert first == "r"
    assert second.startswith("r."), "the engine tells of each by a name of its own"
    served.aborts.charged(first, 3.0)  # which its answer has told
    served.aborts.charged(second, 2.0)
    assert (served.charged_joules, served.spent_joules) == (5.0, 5.0)
    assert served.ledger.charges == [(served.ledger.rows[1].row_id, 2_000_000)]


async def test_what_an_engine_refuses_costs_nothing_that_is_not_known() -> None:
    served, caller = Served(json_answer(b'{"error":{"message":"no"}}', 400), tokens_per_minute=100), Caller()
    await served.begin(caller, stream=False)
    assert served.gate.used() == (0, 0)
    assert served.gate.admit(tokens=100).tier == "default", "its tokens were given back"


async def test_errors_tell_what_is_left_as_answers_do() -> None:
    served, caller = Served(json_answer(WHOLE, 600), requests_per_minute=5), Caller()
    await served.begin(caller, stream=False)
    assert caller.sent[0]["status"] == 502
    assert caller.headers[b"x-ratelimit-remaining-requests"] == b"4"


@pytest.mark.parametrize(
    "end",
    [
        b'event: error\ndata: {"type":"error","error":{"type":"internal_error"}}\n\n',
        b'event: response.failed\r\ndata: {"type":"response.failed"}\r\n\r\n',
    ],
)
async def test_a_stream_that_ends_with_an_error_of_any_form_has_failed_and_is_charged(end: bytes) -> None:
    served, caller = Served(stream_of(CHUNK, end)), Caller()
    await served.begin(caller, stream=True)
    served.aborts.charged("r", 2.0)
    (row,) = served.ledger.rows
    assert (row.outcome, row.energy_source, served.counted("failed")) == ("failed", "nvml", 1)
    assert (served.charged_joules, served.ledger.charges) == (2.0, [(row.row_id, 2_000_000)])


async def test_an_answer_that_has_no_room_for_its_energy_is_charged_when_its_worker_tells() -> None:
    served, caller = Served(Answer(200, b"text/plain", [b"hello"])), Caller()
    await served.begin(caller, stream=False)
    served.aborts.charged("r", 2.0)
    (row,) = served.ledger.rows
    assert (row.outcome, row.is_measured, served.charged_joules) == ("completed", True, 2.0)
    assert served.gate.used() == (0, 0)


async def test_what_runs_no_engine_costs_nothing_that_is_not_known() -> None:
    served, caller = Served(json_answer(b'{"tokens":[1]}')), Caller()
    await served.begin(caller, stream=False, path="/tokenize")
    assert served.gate.used() == (0, 0)


async def test_who_does_not_take_the_end_of_a_stream_holds_no_place_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stall_watch, "_STALL_SECONDS", 0.05)
    monkeypatch.setattr(stall_watch, "_LOOK_SECONDS", 0.02)
    served, caller = Served(stream_of(CHUNK, END)), Caller()
    served.ledger.may_tell.clear()
    serving = served.begin(caller, stream=True)
    await served.ledger.is_asked.wait()
    caller.takes.clear()
    served.ledger.may_tell.set()
    async with asyncio.timeout(2):
        await serving
    assert (served.ledger.rows[0].outcome, served.counted("completed")) == ("completed", 1)
    assert served.gate.used() == (0, 0)
