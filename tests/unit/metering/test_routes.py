import pytest

from metering.routes import runs_engine


@pytest.mark.parametrize(
    "path",
    [
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/chat/completions/batch",
        "/v1/responses",
        "/v1/messages",
        "/v1/embeddings",
        "/v1/rerank",
        "/v1/score",
        "/v1/systemone",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v2/rerank",
        "/v2/embed",
        "/pooling",
        "/classify",
        "/score",
        "/rerank",
        "/generative_scoring",
        "/invocations",
        "/inference/v1/generate",
        "/cohere/v2/chat",
    ],
)
def test_every_route_of_vllm_that_runs_the_engine_is_known(path: str) -> None:
    assert runs_engine(path)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models",
        "/tokenize",
        "/detokenize",
        "/v1/messages/count_tokens",
        "/v1/chat/completions/render",
        "/v1/completions/derender",
        "/v1/responses/resp_1",
        "/v1/responses/resp_1/cancel",
        "/v1/load_lora_adapter",
        "/v1/completions/",
        "/energy",
    ],
)
def test_what_costs_no_forward_pass_has_no_energy(path: str) -> None:
    assert not runs_engine(path)
