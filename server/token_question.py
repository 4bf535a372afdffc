"""What to ask vLLM's `/tokenize` about a request, and how to read its answer. No I/O."""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from server.prompt import collect_texts

_CHAT_PATH: Final = "/v1/chat/completions"
# Text of ordinary languages has 3 to 5 bytes a token: so much of it is sure to show that it is too long, and no more
# than that is tokenised for nothing.
_SENT_CHARACTERS_PER_TOKEN: Final = 16
# The first two keys of the answer; the tokens themselves, which follow, are not read.
_HEAD_BYTES: Final = 200
_COUNT: Final = re.compile(rb'"count"\s*:\s*(\d+)')
_LIMIT: Final = re.compile(rb'"max_model_len"\s*:\s*(\d+)')
# What of a chat request decides how its template is filled in.
_TEMPLATE_FIELDS: Final = (
    "messages",
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
    "chat_template",
    "chat_template_kwargs",
)


@dataclass(frozen=True, slots=True)
class TokenQuestion:
    """`is_exact` is false where the answer will be less than the prompt's length, if it is not the same.

    Exact are a completion's only prompt and a chat of texts alone. Of anything else the bare text is counted, without
    what templates, images and sound add; of several prompts the longest; of a very long text only the beginning.
    """

    body: bytes
    is_exact: bool


@dataclass(frozen=True, slots=True)
class TokenCount:
    """An answer; `max_model_len` is None where the engine does not tell it along with the count."""

    tokens: int
    max_model_len: int | None


def token_question(path: str, model: str, field: str, body: bytes, limit: int) -> TokenQuestion:
    """The question about the prompt in `field` of a request's body; `limit` is the context length, as far as known."""
    fields: dict[str, Any] = json.loads(body)
    prompt = fields[field]
    texts: list[str] = []
    has_media = collect_texts(prompt, texts)
    most_characters = limit * _SENT_CHARACTERS_PER_TOKEN
    if sum(map(len, texts)) <= most_characters:
        if path == _CHAT_PATH and field == "messages" and not has_media:
            return TokenQuestion(_chat(model, fields), is_exact=True)
        if field == "prompt" and isinstance(prompt, str):
            return TokenQuestion(_text(model, prompt, fields.get("add_special_tokens")), is_exact=True)
    if isinstance(prompt, list) and set(map(type, prompt)) == {str}:
        text = max(texts, key=len)
    else:
        for name in ("system", "instructions"):
            collect_texts(fields.get(name), texts)
        text = "\n".join(texts)
    return TokenQuestion(_text(model, text[:most_characters], add_special_tokens=False), is_exact=False)


def read_token_count(answer: bytes) -> TokenCount | None:
    """The count in an answer of `/tokenize`, None where it has none."""
    head = answer[:_HEAD_BYTES]
    count, limit = _COUNT.search(head), _LIMIT.search(head)
    return TokenCount(int(count[1]), int(limit[1]) if limit is not None else None) if count is not None else None


def _chat(model: str, fields: dict[str, Any]) -> bytes:
    question = {name: fields[name] for name in _TEMPLATE_FIELDS if fields.get(name) is not None}
    if fields.get("tools") is not None and fields.get("tool_choice") != "none":
        question["tools"] = fields["tools"]
    return json.dumps({"model": model} | question).encode()


def _text(model: str, text: str, add_special_tokens: object) -> bytes:
    question: dict[str, object] = {"model": model, "prompt": text}
    if add_special_tokens is not None:
        question["add_special_tokens"] = add_special_tokens
    return json.dumps(question).encode()
