"""Bodies of the fake engine's answers, as bytes ready to send.

Built by formatting, not by serialising, because the engine must be faster than whatever is measured in
front of it. Knows OpenAI's shapes and the energy block; nothing of sockets.
"""

import json
from http import HTTPStatus

from workers.fake.accounts import EnergyCharge
from workers.fake.generation_request import GenerationRequest

MICROJOULES_PER_JOULE = 1_000_000
JOULES_PER_KILOWATT_HOUR = 3_600_000

ID_PREFIXES = {"chat": "chatcmpl-", "completions": "cmpl-"}
OBJECTS = {"chat": "chat.completion", "completions": "text_completion"}
STREAM_OBJECTS = {"chat": "chat.completion.chunk", "completions": "text_completion"}

STREAM_END = b"data: [DONE]\n\n"


def energy_joules(charge: EnergyCharge) -> str:
    """The request's joules as an exact decimal."""
    return _joules(charge.prefill_microjoules + charge.decode_microjoules)


def energy_block(request: GenerationRequest, charge: EnergyCharge) -> str:
    """The energy block as JSON; the joules are exact decimals of the integer microjoules."""
    microjoules = charge.prefill_microjoules + charge.decode_microjoules
    joules = microjoules / MICROJOULES_PER_JOULE
    output_tokens = request.max_tokens * request.sequences
    watts = f"{joules / charge.duration_seconds:.6f}" if charge.duration_seconds > 0 else "null"
    ratio = f"{microjoules / charge.device_microjoules:.6f}" if charge.device_microjoules else "null"
    total = _joules(microjoules)
    return (
        f'{{"energy_joules":{total},"energy_kwh":{joules / JOULES_PER_KILOWATT_HOUR:.9g},'
        f'"prefill_joules":{_joules(charge.prefill_microjoules)},'
        f'"decode_joules":{_joules(charge.decode_microjoules)},'
        f'"joules_per_output_token":{joules / output_tokens:.9g},"avg_power_watts":{watts},'
        f'"duration_seconds":{charge.duration_seconds:.9f},"components_joules":{{"cpu":{total}}},'
        f'"source":"estimate","measured":false,"uncertainty_ratio":null,'
        f'"attribution_method":"step_prorated","attribution_ratio":{ratio},'
        f'"prompt_tokens":{request.prompt_tokens},"output_tokens":{output_tokens}}}'
    )


def completion_body(request: GenerationRequest, model: str, created: int, charge: EnergyCharge) -> bytes:
    """The whole body of an answer that is not streamed; `energy` is its last key."""
    text = generated_text(request.max_tokens)
    content = (
        f'"message":{{"role":"assistant","content":"{text}"}}' if request.endpoint == "chat" else f'"text":"{text}"'
    )
    choices = ",".join(
        f'{{"index":{index},{content},"logprobs":null,"finish_reason":"length"}}' for index in range(request.sequences)
    )
    return (
        f'{{{_envelope(request, OBJECTS[request.endpoint], model, created)},"choices":[{choices}],"service_tier":null,'
        f'"usage":{_usage(request)},"energy":{energy_block(request, charge)}}}'
    ).encode()


class StreamEvents:
    """The events of one streamed answer."""

    def __init__(self, request: GenerationRequest, model: str, created: int) -> None:
        self._request = request
        self._envelope = _envelope(request, STREAM_OBJECTS[request.endpoint], model, created)

    def token(self, index: int, *, first: bool) -> bytes:
        """One token of one sequence; a chat's first one also carries the role."""
        text = "tok" if first else " tok"
        if self._request.endpoint == "completions":
            return self._choice(index, f'"text":"{text}"', "null")
        role = '"role":"assistant",' if first else ""
        return self._choice(index, f'"delta":{{{role}"content":"{text}"}}', "null")

    def finish(self, index: int) -> bytes:
        """The end of one sequence."""
        content = '"text":""' if self._request.endpoint == "completions" else '"delta":{}'
        return self._choice(index, content, '"length"')

    def usage(self, charge: EnergyCharge) -> bytes:
        """The usage chunk, for callers who asked for it."""
        usage, energy = _usage(self._request), energy_block(self._request, charge)
        return f'data: {{{self._envelope},"choices":[],"usage":{usage},"energy":{energy}}}\n\n'.encode()

    def energy(self, charge: EnergyCharge) -> bytes:
        """The comment that carries the energy block past clients that know nothing of it."""
        return f": energy {energy_block(self._request, charge)}\n\n".encode()

    def _choice(self, index: int, content: str, finish_reason: str) -> bytes:
        choice = f'{{"index":{index},{content},"logprobs":null,"finish_reason":{finish_reason}}}'
        return f'data: {{{self._envelope},"choices":[{choice}]}}\n\n'.encode()


def error_body(status: int, message: str, code: str, param: str | None = None) -> bytes:
    """An error in OpenAI's shape."""
    kind = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = "rate_limit_error"
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}).encode()


def echo_body(path: str, method: str, size_bytes: int) -> bytes:
    """What an endpoint answers that has no behaviour here, so that pass-through can be checked."""
    return json.dumps({"object": "echo", "path": path, "method": method, "bytes": size_bytes}).encode()


def models_body(model: str, max_model_len: int) -> bytes:
    """The list of models: the one that is served."""
    entry = {"id": model, "object": "model", "created": 0, "owned_by": "fake", "max_model_len": max_model_len}
    return json.dumps({"object": "list", "data": [entry]}).encode()


def token_count_body(prompt_tokens: int, max_model_len: int) -> bytes:
    """How many tokens a prompt has; which they are, nobody asks a fake."""
    return b'{"count":%d,"max_model_len":%d,"tokens":[]}' % (prompt_tokens, max_model_len)


def generated_text(tokens: int) -> str:
    """The text of every answer: as many words as tokens."""
    return "tok" + " tok" * (tokens - 1)


def _envelope(request: GenerationRequest, kind: str, model: str, created: int) -> str:
    identity = json.dumps(ID_PREFIXES[request.endpoint] + request.request_id)
    return f'"id":{identity},"object":"{kind}","created":{created},"model":{json.dumps(model)}'


def _usage(request: GenerationRequest) -> str:
    output_tokens = request.max_tokens * request.sequences
    return (
        f'{{"prompt_tokens":{request.prompt_tokens},"completion_tokens":{output_tokens},'
        f'"total_tokens":{request.prompt_tokens + output_tokens}}}'
    )


def _joules(microjoules: int) -> str:
    whole, fraction = divmod(microjoules, MICROJOULES_PER_JOULE)
    return f"{whole}.{fraction:06d}"
