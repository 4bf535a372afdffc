"""Which service tier a request gets for the name it gave, and how the answer says so.

Bodies are changed by splicing bytes. A key's unescaped quotes cannot stand inside a JSON string, so what is searched
for here is never a model's or a caller's text.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from scheduler import tiers
from server.api_error import ApiError

TIER_HEADER: Final = b"x-wattline-service-tier"
_MESSAGES_PATH: Final = "/v1/messages"
_RESPONSES_PATH: Final = "/v1/responses"

# OpenAI's names. `scale` is bought capacity there, which comes closest to our `priority`.
_OPENAI: Final[Mapping[str, str]] = MappingProxyType(
    {
        "auto": tiers.DEFAULT,
        "default": tiers.DEFAULT,
        "flex": tiers.FLEX,
        "priority": tiers.PRIORITY,
        "scale": tiers.PRIORITY,
    }
)
# Anthropic's own are the first two; the tiers that only we know can be asked for there as well.
_ANTHROPIC: Final[Mapping[str, str]] = MappingProxyType(
    {"auto": tiers.DEFAULT, "standard_only": tiers.DEFAULT} | dict(_OPENAI)
)

_KEY: Final = b'"service_tier":'
_VALUE: Final = re.compile(rb'\s*(null|"[a-z_]{1,20}")')
# vLLM writes the key near the end; what follows may repeat a schema of the caller's, with keys as many as he likes.
_LOOKED_AT: Final = 8
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


def tier_of(name: str | None, path: str) -> str:
    """The tier that a request to `path` gets; none named is the default one.

    Raises:
        ApiError: 400, naming the accepted ones.
    """
    if name is None:
        return tiers.DEFAULT
    accepted = _ANTHROPIC if path == _MESSAGES_PATH else _OPENAI
    tier = accepted.get(name)
    if tier is None:
        names = ", ".join(accepted)
        raise ApiError(
            400,
            f"service_tier: this tier is not known; accepted are: {names}",
            "invalid_service_tier",
            "service_tier",
        )
    return tier


def asked_tier(name: str | None) -> str | None:
    """The tier that a known name asks for; None where it leaves the choice to us, as no name and `auto` do."""
    return None if name is None or name == "auto" else _ANTHROPIC.get(name)


def with_tier_asked(body: bytes, name: str | None, tier: str, path: str) -> bytes:
    """The body for the engine. vLLM's Responses API repeats what it was asked for, so it is asked for what is given.

    The key is added at the end: of equal keys JSON readers take the last.
    """
    whole = body.rstrip()
    if path != _RESPONSES_PATH or name == tier or not whole.endswith(b"}"):
        return body
    head = whole[:-1]
    comma = b"" if head.strip() == b"{" else b","
    return b"".join((head, comma, _KEY, b'"', tier.encode(), b'"}'))


def with_tier_told(body: bytes, tier: str) -> bytes:
    """A whole answer with the tier it was given where the engine wrote one at the top level; else unchanged."""
    at = len(body)
    for _ in range(_LOOKED_AT):
        at = body.rfind(_KEY, 0, at)
        if at < 0:
            break
        value = _VALUE.match(body, at + len(_KEY))
        if value is not None and _is_at_top_level(body, value.end()):
            return b"".join((body[: value.start(1)], b'"', tier.encode(), b'"', body[value.end() :]))
    return body


def _is_at_top_level(body: bytes, at: int) -> bool:
    """Whether only the outermost object is open at `at`: what follows then closes one more than it opens."""
    rest = body[at:]
    # Without escapes every second piece between quotes is a string; that is far faster, and the rule.
    rest = _STRING.sub(b"", rest) if b"\\" in rest else b"".join(rest.split(b'"')[::2])
    return rest.count(b"}") + rest.count(b"]") - rest.count(b"{") - rest.count(b"[") == 1
