"""The servers that most integration tests share: started once per module, for none of their tests changes them."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.integration.processes import EngineProcess, FrontEnd, fake_engine, front_end


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EngineProcess]:
    """50 tokens a second: slow enough to be caught in the middle of an answer."""
    async with fake_engine(tmp_path_factory.mktemp("engine"), "--decode-tokens-per-second", "50") as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(engine: EngineProcess, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FrontEnd]:
    async with front_end(tmp_path_factory.mktemp("server"), engine.url, max_body_bytes=4096) as running:
        yield running


@pytest.fixture
async def client(server: FrontEnd) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session
