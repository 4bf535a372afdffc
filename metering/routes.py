"""Which routes of an OpenAI-compatible server run the engine, and so cost energy worth telling."""

import re
from typing import Final

# Those of vLLM 0.32. Others (models, tokenize, rendering, counting tokens, LoRA loading, files) cost no forward pass.
_ENGINE_ROUTES: Final = re.compile(
    r"^(/v1/(completions|chat/completions(/batch)?|responses|messages|embeddings|rerank|score|systemone|audio/\w+)"
    r"|/v2/(rerank|embed)|/(pooling|classify|score|rerank|embeddings|generative_scoring|invocations)"
    r"|/inference/v1/generate|/cohere/v2/chat)$"
)


def runs_engine(path: str) -> bool:
    """Whether a POST to `path` runs the engine."""
    return _ENGINE_ROUTES.match(path) is not None


# Those whose work is a single forward pass cannot be ended half-way.
_GENERATING_ROUTES: Final = re.compile(
    r"^(/v1/(completions|chat/completions(/batch)?|responses|messages|audio/\w+)|/inference/v1/generate)$"
)


def generates(path: str) -> bool:
    """Whether a POST to `path` generates token after token, and so can be ended early."""
    return _GENERATING_ROUTES.match(path) is not None
