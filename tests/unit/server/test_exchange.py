"""What becomes of an exchange before anything of it is placed."""

import asyncio
import time

import pytest

from scheduler.core import Scheduler
from scheduler.driver import SchedulerDriver
from scheduler.least_loaded import LeastLoaded
from scheduler.limits import SchedulerLimits
from server.api_error import ApiError
from server.exchange import Exchange
from server.exchange_record import ExchangeRecord
from server.ledger.ledger import NoLedger
from server.ledger_of_aborts import LedgerOfAborts
from server.live.tally import LiveTally
from server.metrics import ServerMetrics
from server.request_books import RequestBooks
from server.roster import Roster
from server.serving import Serving
from server.tracing import NoTracing


def exchange() -> Exchange:
    core = Scheduler(LeastLoaded(), SchedulerLimits(), frozenset({"m"}))
    serving = Serving(
        SchedulerDriver(core, lambda: 0.0),
        Roster(lambda _request_id, _joules: None),
        LedgerOfAborts(lambda _record, _joules: None),
        RequestBooks(NoLedger(), ServerMetrics(), LiveTally(time.monotonic)),
        NoTracing(),
    )
    return Exchange(serving, NoTracing(), ExchangeRecord("r1", "/v1/completions", "anonymous", "m", "default"), 0.0, [])


async def test_one_that_is_interrupted_while_its_prompt_is_measured_gets_the_answer_and_lives_on() -> None:
    begun: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()

    async def serve() -> int:
        one = exchange()
        begun.set_result(one)
        with pytest.raises(ApiError) as refusal:
            await one.prepare(asyncio.Event().wait())
        await asyncio.sleep(0)  # the task is not cancelled any more: the answer can be sent
        return refusal.value.status

    serving = asyncio.create_task(serve())
    (await begun).interrupt(ApiError(503, "the server is stopping"))
    assert await serving == 503


async def test_a_caller_who_leaves_while_his_prompt_is_measured_ends_it() -> None:
    async def serve() -> None:
        await exchange().prepare(asyncio.Event().wait())

    serving = asyncio.create_task(serve())
    await asyncio.sleep(0)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
