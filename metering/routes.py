"""Which routes of an OpenAI-compatible server run the engine, and so cost energy worth telling."""

import re
from typing import Final

# Others under /v1 (models, tokenize, LoRA loading, files) cost no forward pass.
_ENGINE_ROUTES: Final = re.compile(
    r"^(/v1/(completions|chat/completions(/batch)?|responses|messages|embeddings|rerank|score|audio/\w+)"
    r"|/v2/(rerank|embed)|/(pooling|classify|score|rerank|embeddings)|/inference/v1/generate)$"
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
