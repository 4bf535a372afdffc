"""Embeddings and scores with the real engine, one of `[[models]]`; and what a client does when it is told to wait."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.e2e.energy_blocks import check_parts, energy_of
from tests.e2e.figures import show
from tests.e2e.wattline_process import WattlineProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MODEL = "embedder"
DIMENSIONS = 576  # SmolLM2-135M's hidden size
# One request at a time and no queue: two at once are one too many.
CONFIG = """
max_running_requests = 1
max_queued_requests = 0

[[models]]
name = "smollm2"
served_name = "embedder"
engine_args = "--runner pooling --convert embed --max-model-len 1024"
"""


@pytest.fixture(scope="module")
def embedder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WattlineProcess]:
    folder = tmp_path_factory.mktemp("embedder")
    (folder / "wattline.toml").write_text(CONFIG)
    running = WattlineProcess(folder / "output.log", ["--config", str(folder / "wattline.toml")], [])
    try:
        show(f"embedder ready after {running.wait_ready():.1f} s")
        yield running
        running.stop()
    finally:
        running.discard()


@pytest.fixture
def client(embedder: WattlineProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{embedder.url}/v1", api_key="unused", max_retries=0, timeout=120) as client:
        yield client


@pytest.mark.client("openai", "embeddings", "`embeddings.energy`")
def test_embeddings(client: OpenAI) -> None:
    embeddings = client.embeddings.create(model=MODEL, input=["a river", "the sea"])
    energy = energy_of(embeddings)
    check_parts(energy)
    assert energy["prompt_tokens"] == embeddings.usage.prompt_tokens
    assert (energy["output_tokens"], energy["decode_joules"]) == (0, 0)
    assert [len(one.embedding) for one in embeddings.data] == [DIMENSIONS, DIMENSIONS]


def test_embeddings_as_floats_are_the_same(client: OpenAI) -> None:
    packed = client.embeddings.create(model=MODEL, input="a river").data[0].embedding
    plain = client.embeddings.create(model=MODEL, input="a river", encoding_format="float").data[0].embedding
    assert packed == pytest.approx(plain, abs=1e-5)


@pytest.mark.client("HTTP", "/v1/score, /v1/rerank", "`energy` in the body")
def test_scores(embedder: WattlineProcess) -> None:
    pair = {"model": MODEL, "queries": "a river", "documents": ["a stream", "the moon"]}
    scores = httpx.post(f"{embedder.url}/v1/score", json=pair, timeout=60).json()
    check_parts(scores["energy"])
    assert len(scores["data"]) == 2
    query = {"model": MODEL, "query": "a river", "documents": ["a stream", "the moon"]}
    ranked = httpx.post(f"{embedder.url}/v1/rerank", json=query, timeout=60).json()
    check_parts(ranked["energy"])
    assert {result["index"] for result in ranked["results"]} == {0, 1}


@pytest.mark.client("HTTP", "/tokenize, /detokenize")
def test_tokens_there_and_back(embedder: WattlineProcess) -> None:
    asked = {"model": MODEL, "prompt": "a river runs"}
    tokens = httpx.post(f"{embedder.url}/tokenize", json=asked, timeout=60).json()
    back = httpx.post(f"{embedder.url}/detokenize", json={"model": MODEL, "tokens": tokens["tokens"]}, timeout=60)
    assert back.json()["prompt"] == "a river runs"
    assert "energy" not in tokens


def test_the_worker_is_called_after_its_model(embedder: WattlineProcess, client: OpenAI) -> None:
    assert [worker["worker_id"] for worker in embedder.scheduler()["workers"]] == ["embedder-0"]
    assert [model.id for model in client.models.list()] == [MODEL]


def test_a_chat_with_a_model_that_has_none_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])
    assert 400 <= refused.value.status_code < 500
    assert isinstance(refused.value.code, str)


@pytest.mark.client("openai", "retries a 429 after `Retry-After`", "`embeddings.energy`")
async def test_the_client_comes_back_when_it_was_told_to(embedder: WattlineProcess) -> None:
    async with AsyncOpenAI(base_url=f"{embedder.url}/v1", api_key="unused", max_retries=6, timeout=120) as client:
        create = client.embeddings.with_raw_response.create
        answers = await asyncio.gather(*(create(model=MODEL, input=f"{n} " + "river " * 200) for n in range(3)))
    for answer in answers:
        check_parts(energy_of(answer.parse()))
    show(f"retries: {sorted(answer.retries_taken for answer in answers)}")
    assert sum(answer.retries_taken for answer in answers) > 0
    refused = embedder.metrics().total("wattline_requests_total", endpoint="/v1/embeddings", outcome="refused")
    assert refused == sum(answer.retries_taken for answer in answers)
