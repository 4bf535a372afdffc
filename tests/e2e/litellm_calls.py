"""What LiteLLM makes of a server, as JSON: `python -m tests.e2e.litellm_calls URL`. A process of its own.

Its import is slow, warns of its own types and would fetch a price list from the net, and the clients it keeps are never
closed. Looking up or reaching any other host ends it at once.
"""

import json
import os
import sys
from typing import Any

_LOOPBACK = {None, "", "127.0.0.1", "localhost", b"127.0.0.1", b"localhost"}
_MESSAGES = [{"role": "user", "content": "Say hello to Ada."}]


def stay_at_home(event: str, arguments: tuple[Any, ...]) -> None:
    """For `sys.addaudithook`."""
    asked = None
    if event == "socket.getaddrinfo":
        asked = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        asked = arguments[1][0]
    if asked not in _LOOPBACK:
        os.write(2, f"litellm asked for {asked!r}\n".encode())
        os._exit(3)


def calls(url: str) -> dict[str, Any]:
    """One answer, one stream, one refusal."""
    import litellm  # noqa: PLC0415  # not before the hook is there

    options: dict[str, Any] = {"api_base": f"{url}/v1", "api_key": "unused", "num_retries": 0, "timeout": 120}
    options |= {"model": "openai/smollm2", "messages": _MESSAGES, "max_tokens": 8}
    answer = litellm.completion(**options)
    stream = list(litellm.completion(**options, stream=True, stream_options={"include_usage": True}))
    try:
        litellm.completion(**options | {"model": "openai/no-such-model"})
    except litellm.exceptions.NotFoundError as error:
        refusal = str(error)
    return {
        "energy": answer.energy,
        "output_tokens": answer.usage.completion_tokens,
        "headers": {name: str(value) for name, value in answer._hidden_params["additional_headers"].items()},
        "streamed_text": "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices),
        "streamed_tokens": stream[-1].usage.completion_tokens,
        "streamed_energy": [chunk.energy for chunk in stream if hasattr(chunk, "energy")],
        "refusal": refusal,
    }


if __name__ == "__main__":
    sys.addaudithook(stay_at_home)
    sys.stdout.write(json.dumps(calls(sys.argv[1])) + "\n")
