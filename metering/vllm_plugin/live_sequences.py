"""Looks up the sequences of a request that is about to be aborted, while vLLM still has them.

vLLM reports nothing of an aborted request, so its state is read just before. That state is internal to vLLM: where it
is not as expected the answer is empty, and the energy ends in `unattributed` instead of on the request.
"""

from collections.abc import Callable
from typing import Any

from metering.step import EndedSequence


def live_sequences(app: Any, is_owned: Callable[[str], bool]) -> list[EndedSequence]:  # noqa: ANN401  # vLLM's app
    """Sequences that the engine behind this FastAPI app has not ended, chosen by their id."""
    try:
        client = app.state.engine_client
        states = client.output_processor.request_states
        return [sequence_of(client, state) for state in list(states.values()) if is_owned(state.external_req_id)]
    except (AttributeError, TypeError):
        return []


def sequence_of(client: Any, state: Any) -> EndedSequence:  # noqa: ANN401  # vllm is not analysed
    """What one of vLLM's request states says of its sequence."""
    stats = state.stats
    return EndedSequence(
        computed_prompt_tokens=max(0, state.prompt_len - state.num_cached_tokens),
        prompt_tokens=state.prompt_len,
        output_tokens=stats.num_generation_tokens,
        decode_seconds=max(0.0, stats.last_token_ts - stats.first_token_ts),
        prefill_done=not state.is_prefilling,
        preemptions=getattr(stats, "num_preemptions", 0),
        engine=_engine_of(client, state),
    )


def _engine_of(client: Any, state: Any) -> int:  # noqa: ANN401  # vllm is not analysed
    """Which data-parallel engine runs a sequence, counted in this server; the first where only one does.

    vLLM's load-balancing client keeps the identity of each request's engine, its number as two bytes.
    """
    core = getattr(client, "engine_core", None)
    identities = list(getattr(core, "core_engines", ()))
    identity = getattr(core, "reqs_in_flight", {}).get(getattr(state, "request_id", None))
    return identities.index(identity) if identity in identities else 0
