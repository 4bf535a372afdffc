"""Ends sequences in vLLM before their time, in such a way that every API answers as at `max_tokens`.

vLLM has no public way to do so. Relied on, beside what `live_sequences.py` reads, and looked for before anything is
ended:

- `AsyncLLM.output_processor` keeps `request_states` by internal id in the order of arrival, and its
  `_finish_request(state)` forgets one, its parent and its external id with it;
- `RequestState.make_request_output(new_token_ids, pooling_output, finish_reason, stop_reason)` makes the last output,
  the text held back for stop strings and that of the other choices included, and `state.queue.put` delivers it: this
  is how vLLM itself ends an aborted request, but for the reason;
- `AsyncLLM.engine_core.abort_requests_async(internal ids)` stops a sequence in the engine.

Where any of them is missing, nothing is ended: caps are not kept, and the energy block says so.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import Any, Final

from metering.step import EndedSequence
from metering.vllm_plugin.live_sequences import sequence_of

logger = logging.getLogger("wattline.metering")

# Ids of sequences that have ended are forgotten when so many have gathered.
_KEPT_IDS: Final = 1024


class EngineSequences:
    """The sequences of one vLLM engine client that have not ended. `app` is vLLM's FastAPI application."""

    def __init__(self, app: Any) -> None:  # noqa: ANN401  # vllm is not analysed
        self._client: Any = getattr(getattr(app, "state", None), "engine_client", None)
        self._known: set[str] = set()
        self._aborts: set[asyncio.Task[None]] = set()

    def is_of(self, app: Any) -> bool:  # noqa: ANN401  # as above
        """Whether these are the sequences of this application."""
        return self._client is getattr(getattr(app, "state", None), "engine_client", None)

    def why_unfit(self) -> str | None:
        """Why sequences cannot be ended here; None where they can, as far as can be seen."""
        processor = getattr(self._client, "output_processor", None)
        core = getattr(self._client, "engine_core", None)
        parts = {
            "output_processor.request_states": getattr(processor, "request_states", None),
            "output_processor._finish_request": getattr(processor, "_finish_request", None),
            "output_processor.lora_states": getattr(processor, "lora_states", None),
            "engine_core.abort_requests_async": getattr(core, "abort_requests_async", None),
        }
        missing = [name for name, part in parts.items() if part is None]
        return f"this version of vLLM has no {missing[0]}, which ending a request early needs" if missing else None

    def __len__(self) -> int:
        return len(self._client.output_processor.request_states)

    def arrived(self) -> list[tuple[str, str]]:
        """Sequences that were not there when this was last asked: their internal and external ids.

        The latest come last in vLLM's dictionary: one already known ends the search.
        """
        states = self._client.output_processor.request_states
        if len(self._known) > 2 * len(states) + _KEPT_IDS:
            self._known.intersection_update(states)
        new = []
        for internal_id in reversed(states):
            if internal_id in self._known:
                break
            new.append((internal_id, states[internal_id].external_req_id))
        self._known.update(internal_id for internal_id, _ in new)
        return new

    def sequence(self, internal_id: str) -> EndedSequence | None:
        """What a sequence would say of itself if it ended now; None once it has ended."""
        state = self._client.output_processor.request_states.get(internal_id)
        return None if state is None else sequence_of(self._client, state)

    def are_others_prefilling(self, own: Collection[str]) -> bool:
        """Whether a sequence that is not among `own` has yet to get its first token."""
        states = self._client.output_processor.request_states
        return any(state.is_prefilling for internal_id, state in states.items() if internal_id not in own)

    def stop(self, internal_ids: Sequence[str]) -> None:
        """Have the engine stop sequences. Steps already under way still compute them; nobody is told yet."""
        task = asyncio.get_running_loop().create_task(self._stop(list(internal_ids)))
        self._aborts.add(task)
        task.add_done_callback(self._aborts.discard)

    def deliver_end(self, internal_id: str) -> None:
        """Tell whoever waits for a sequence that it ended at its length limit, with all of its tokens so far."""
        processor = self._client.output_processor
        state = processor.request_states[internal_id]
        try:
            from vllm.v1.engine import FinishReason  # noqa: PLC0415  # only inside vLLM

            output = state.make_request_output([], None, FinishReason.LENGTH, None)
            if output is not None:
                state.queue.put(output)
            processor._finish_request(state)  # noqa: SLF001  # see above
            processor.lora_states.request_finished(internal_id, state.lora_name)
        except Exception as error:  # whatever vLLM has changed: the caller must not wait for ever
            logger.exception("a sequence could not be ended at its energy cap")
            state.queue.put(error)

    async def _stop(self, internal_ids: list[str]) -> None:
        try:
            await self._client.engine_core.abort_requests_async(internal_ids)
        except Exception:  # its engine is gone, say: vLLM tells the callers itself
            logger.exception("sequences at their energy cap could not be stopped")
