"""The fetcher against a local server that answers with what was recorded, or fails in the ways that servers do."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from server.carbon.fetched import FetchedGridCarbon
from server.carbon.grid import unix_seconds_of
from server.carbon.providers import ElectricityMaps, UkCarbonIntensity
from tests.local_http import serving

RECORDED = Path(__file__).parent.parent / "data" / "carbon"
NOW = unix_seconds_of("2026-11-27T19:40:00Z")
TOKEN = "s3cr3t-token"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def recorded(name: str, status: int = 200) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=(RECORDED / name).read_bytes(), status=status, content_type="application/json")

    return answer


def plain(body: bytes = b"", status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(
            body=body, status=status, headers={name.replace("_", "-"): headers[name] for name in headers}
        )

    return answer


class Served:
    """A server whose answers the test changes, a grid that asks it, and a clock that the test sets."""

    def __init__(self, url: str, session: aiohttp.ClientSession, answers: "Answers") -> None:
        self.now = NOW
        self.answers = answers
        self.session = session
        self.grid = FetchedGridCarbon(
            ElectricityMaps("DE", TOKEN), url, 7200.0, lambda: self.now, timeout_seconds=answers.timeout_seconds
        )

    async def refresh(self) -> float:
        return await self.grid.refresh(self.session)

    def value(self) -> float | None:
        return self.grid.now(self.now).gco2_per_kwh

    def reason(self) -> str | None:
        return self.grid.now(self.now).reason


class Answers:
    """What the server says next, and what it was asked."""

    def __init__(self, answer: Answer, timeout_seconds: float = 10.0) -> None:
        self.answer = answer
        self.timeout_seconds = timeout_seconds
        self.asked: list[web.Request] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        return await self.answer(request)


async def with_answers(answers: Answers, test: Callable[[Served], Awaitable[None]]) -> None:
    async with serving(answers) as url, aiohttp.ClientSession() as session:
        await test(Served(url, session, answers))


async def test_a_value_is_asked_for_again_when_its_hour_is_over() -> None:
    async def test(served: Served) -> None:
        assert await served.refresh() == 20 * 60 + 15, "it is 19:40, and the hour's value is good until 20:00"
        assert served.value() == 421.0
        (asked,) = served.answers.asked
        assert (asked.headers["auth-token"], asked.path_qs) == (TOKEN, "/v3/carbon-intensity/latest?zone=DE")
        served.now += 1800.0
        assert await served.refresh() == 60.0, "it is late, and the provider has nothing newer: not too often"
        served.now = NOW - 86400.0
        assert await served.refresh() == 3600.0, "a clock that is wrong does not put the next question off for a day"

    await with_answers(Answers(recorded("electricity_maps.json")), test)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (recorded("uk_bad_region.json", 400), "it answered with status 400"),
        (plain(status=500), "it answered with status 500"),
        (plain(status=401), "it refuses the token or the zone (status 401)"),
        (plain(status=429), "it was asked too often (status 429)"),
        (plain(status=302, Location="http://127.0.0.1:9/"), "it answered with status 302"),
        (plain(b"<html>maintenance</html>"), "the answer is no JSON"),
        (plain(b"{}"), "the answer's time is none in ISO 8601"),
        (plain(b'{"carbonIntensity":'), "the answer is no JSON"),
        (plain(b" " * 70_000 + b"{}"), "the answer is longer than 65536 bytes"),
        (plain(b"not gzip", Content_Encoding="gzip"), "it cannot be reached (ClientPayloadError)"),
    ],
)
async def test_failures_are_told_and_asked_about_ever_more_rarely(
    answer: Answer, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(served: Served) -> None:
        waits = [await served.refresh() for _ in range(12)]
        assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900, 900]
        assert served.value() is None
        assert served.reason() == f"no value yet: {reason}"
        served.answers.answer = recorded("electricity_maps.json")
        await served.refresh()
        assert served.value() == 421.0
        served.answers.answer = answer
        assert await served.refresh() == 5.0, "after a success the back-off begins anew"
        assert served.value() == 421.0, "the last value still counts"
        served.now += 7200.0
        assert served.reason() == "the latest value is 2.7 h old"

    with caplog.at_level(logging.INFO, "wattline"):
        await with_answers(Answers(answer), test)
    levels = [record.levelname for record in caplog.records if record.name == "wattline.carbon"]
    assert levels == ["WARNING", "INFO", "WARNING"], "once each time it begins, once when it is over"
    assert TOKEN not in caplog.text


async def test_a_provider_may_say_how_long_to_stay_away() -> None:
    async def test(served: Served) -> None:
        for said, waits in (("120", 120.0), ("1", 10.0), ("999999", 3600.0), ("soon", 40.0), ("٣", 80.0)):
            served.answers.answer = plain(status=429, Retry_After=said)
            assert await served.refresh() == waits

    await with_answers(Answers(plain()), test)


async def test_a_provider_that_does_not_answer_holds_nobody_up() -> None:
    enough = asyncio.Event()

    async def never(_: web.Request) -> web.StreamResponse:
        await enough.wait()
        return web.Response()

    async def test(served: Served) -> None:
        assert await served.refresh() == 5.0
        assert served.reason() == "no value yet: no answer within 0.05 s"
        enough.set()

    await with_answers(Answers(never, timeout_seconds=0.05), test)


async def test_nobody_there() -> None:
    async with aiohttp.ClientSession() as session:
        grid = FetchedGridCarbon(UkCarbonIntensity(None), "http://127.0.0.1:9", 7200.0, lambda: NOW)
        assert await grid.refresh(session) == 5.0
        assert "it cannot be reached" in str(grid.now(NOW).reason)


@pytest.mark.parametrize(
    ("skew_seconds", "known"), [(-7000, True), (7000 - 2400, True), (7000, False), (-12000, False)]
)
async def test_clocks_that_disagree_are_borne_up_to_the_limit(skew_seconds: float, known: bool) -> None:  # noqa: FBT001
    """The recorded hour began 40 minutes before NOW."""

    async def test(served: Served) -> None:
        served.now += skew_seconds
        await served.refresh()
        assert (served.value() is not None) == known
        age_seconds = served.grid.now(served.now).age_seconds
        assert age_seconds is None or age_seconds >= 0

    await with_answers(Answers(recorded("electricity_maps.json")), test)


async def test_it_goes_on_asking_in_the_background() -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            raise asyncio.CancelledError

    async with serving(recorded("uk_national.json")) as url:
        grid = FetchedGridCarbon(UkCarbonIntensity(None), url, 7200.0, lambda: NOW, sleep)
        with pytest.raises(asyncio.CancelledError):
            await grid.run()
    assert waited == [1215.0] * 3
    assert grid.now(NOW).gco2_per_kwh == 187.0
    assert grid.now(NOW).age_seconds == 600.0
