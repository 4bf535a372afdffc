"""How long a prompt is, from its text alone: nothing is tokenised here."""

from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import to_json

# Contents that become tokens by other rules than text does: images, sound, files.
_MEDIA: Final = frozenset(
    {
        "image_url",
        "video_url",
        "audio_url",
        "input_audio",
        "image",
        "audio",
        "video",
        "file",
        "file_data",
        "image_embeds",
        "prompt_embeds",
        "source",
    }
)
# Words of the format, which are not the caller's text.
_LABELS: Final = frozenset({"type", "role", "id", "call_id", "tool_use_id", "status", "cache_control"})
# What a chat template may write around the messages and around each of them. Assumptions, on the generous side: the
# longest default system prompt known to us has about 150 tokens.
_TEMPLATE_TOKENS: Final = 256
_TEMPLATE_TOKENS_EACH: Final = 16


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of a request, or its prompts: a completion may have several, each judged by its own length.

    `field` is the body's field that holds it, None where there is none we know. `text_bytes` is the length of all
    text in UTF-8, `longest_text_bytes` of the longest single prompt. The token counts are exact, and None where the
    prompt is not given as token ids. `texts` is how many pieces the text comes in.
    """

    field: str | None = None
    text_bytes: int = 0
    longest_text_bytes: int = 0
    texts: int = 0
    tokens: int | None = None
    longest_tokens: int | None = None

    @property
    def most_tokens(self) -> int:
        """More tokens than the longest single prompt can have.

        A byte-level tokeniser makes at most one token of a byte.
        """
        if self.longest_tokens is not None:
            return self.longest_tokens
        return self.longest_text_bytes + _TEMPLATE_TOKENS + _TEMPLATE_TOKENS_EACH * self.texts


UNKNOWN_PROMPT: Final = Prompt()


def measure(field: str, value: object, system: object = None, tools: object = None) -> Prompt:
    """The length of the prompt in `field`, with the `system` prompt and the `tools` that are put in front of it."""
    if isinstance(value, list) and value:
        kinds = set(map(type, value))
        if kinds == {int}:
            return Prompt(field, tokens=len(value), longest_tokens=len(value))
        if kinds == {list} and all(set(map(type, one)) <= {int} for one in value):
            lengths = [len(one) for one in value]
            return Prompt(field, tokens=sum(lengths), longest_tokens=max(lengths))
        if kinds == {str}:
            sizes = [_utf8_bytes(text) for text in value]
            return Prompt(field, sum(sizes), max(sizes), 1)
    texts: list[str] = []
    for part in (_plain_messages(value, texts), system):
        if part is not None:
            collect_texts(part, texts)
    size_bytes = sum(map(_utf8_bytes, texts))
    if tools:
        size_bytes += len(to_json(tools))  # templates write them out as JSON
    return Prompt(field, size_bytes, size_bytes, len(texts))


def collect_texts(value: Any, texts: list[str]) -> bool:  # noqa: ANN401  # a part of a caller's JSON
    """Add every text in `value`, in order; returns whether there was something besides text."""
    if isinstance(value, str):
        texts.append(value)
        return False
    if isinstance(value, dict):
        has_media = False
        for key, item in value.items():
            if key in _MEDIA and item is not None:
                has_media = True
            elif key not in _LABELS:
                has_media |= collect_texts(item, texts)
        return has_media
    if isinstance(value, list):
        has_media = False
        for item in value:
            has_media |= collect_texts(item, texts)
        return has_media
    return False


def _plain_messages(value: object, texts: list[str]) -> object:
    """Take the texts of messages in their simplest form, which most have; returns what is left of `value`."""
    if not isinstance(value, list):
        return value
    others = []
    for message in value:
        if type(message) is dict and len(message) == 2 and type(content := message.get("content")) is str:
            texts.append(content)
        else:
            others.append(message)
    return others


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
