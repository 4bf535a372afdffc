"""Turns vLLM's per-iteration statistics into engine steps and ended sequences.

vLLM does not promise that these structures stay as they are; this file and `live_sequences.py` are all that knows
them. A surprise in them must never stop the engine: the meter gives up instead, and says so in every response.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from vllm.v1.metrics.loggers import StatLoggerBase

from metering.meter import EnergyMeter
from metering.step import EndedSequence, EngineStep
from metering.vllm_plugin.session import MeterSession, process_session

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.metrics.stats import IterationStats, SchedulerStats

logger = logging.getLogger("wattline.metering")

# With asynchronous scheduling, vLLM's default on GPUs, the engine has queued one more step behind the one that runs.
_STEPS_SCHEDULED_AHEAD: Final = 2


class EnergyStatLogger(StatLoggerBase):
    """The stat logger vLLM loads from the entry point group `vllm.stat_logger_plugins`."""

    def __init__(self, vllm_config: "VllmConfig", engine_index: int = 0) -> None:  # noqa: ARG002  # vLLM's signature
        self._session: MeterSession = process_session()
        names = vllm_config.model_config.served_model_name
        if (parallel := getattr(vllm_config, "parallel_config", None)) is not None:
            self._session.engines_use(
                vllm_config.device_config.device_type, parallel.world_size, max(1, parallel.data_parallel_size_local)
            )
        # vLLM's own index counts the engines of other servers too where a balancer outside spreads the load.
        self._engine = self._session.add_engine()
        self._speculates = getattr(vllm_config, "speculative_config", None) is not None
        if getattr(getattr(vllm_config, "scheduler_config", None), "async_scheduling", False):
            self._session.caps.steps_under_way = _STEPS_SCHEDULED_AHEAD
        _silence_iteration_lines()
        self._session.model = names if isinstance(names, str) else names[0]

    def log_engine_initialized(self) -> None:
        self._session.engines_ready(time.monotonic())

    def record(
        self,
        scheduler_stats: "SchedulerStats | None",
        iteration_stats: "IterationStats | None",
        mm_cache_stats: Any = None,  # noqa: ARG002, ANN401  # vLLM's signature
        engine_idx: int = 0,  # noqa: ARG002  # ours is known since the start
    ) -> None:
        """Called by vLLM once per engine iteration, and once more when the engine has emptied."""
        session = self._session
        if session.meter is None and session.work is None:
            return
        session.look_after_sampler()
        now = time.monotonic()
        try:
            step = self._count(scheduler_stats, iteration_stats, now)
        except Exception as error:  # the engine's own loop calls us: our fault must not become its death
            logger.exception("metering failed on an engine iteration")
            session.work = None
            if session.meter is not None:
                session.fail(_failure(error))
            return
        meter = session.meter
        if meter is not None:
            try:
                self._record(meter, step, scheduler_stats, iteration_stats, now)
            except Exception as error:  # as above; what the engine does is still counted
                logger.exception("metering failed on an engine iteration")
                session.fail(_failure(error))

    def _count(
        self,
        scheduler_stats: "SchedulerStats | None",
        iteration_stats: "IterationStats | None",
        now_seconds: float,
    ) -> EngineStep | None:
        """Count what was done; needs no meter."""
        session = self._session
        unfinished = 0
        if scheduler_stats is not None:
            session.count(self._engine, scheduler_stats.num_running_reqs, scheduler_stats.num_waiting_reqs)
            unfinished = scheduler_stats.num_running_reqs + scheduler_stats.num_waiting_reqs
        step = self._step(scheduler_stats, iteration_stats, now_seconds, unfinished)
        if session.work is not None:
            if step is not None:
                session.work.step(step)
            if scheduler_stats is not None:
                session.work.kv_cache_usage(self._engine, scheduler_stats.kv_cache_usage)
        return step

    def _record(
        self,
        meter: EnergyMeter,
        step: EngineStep | None,
        scheduler_stats: "SchedulerStats | None",
        iteration_stats: "IterationStats | None",
        now_seconds: float,
    ) -> None:
        caps, silent = self._session.caps, _silent_sequences(scheduler_stats, iteration_stats)
        if step is not None:
            self._keep_caps(lambda: caps.before_step(self._engine, silent))
            if caps.steps_to_come(self._engine) > 1:  # the engine forgets at once whom it stops; we do not
                step = replace(step, unfinished_sequences=max(1, step.unfinished_sequences))
            meter.step(step)
        if iteration_stats is not None:
            for finished in iteration_stats.finished_requests:
                meter.sequence_ended(
                    self._session.owner_of(finished.request_id),
                    EndedSequence(
                        computed_prompt_tokens=max(0, finished.num_prompt_tokens - finished.num_cached_tokens),
                        prompt_tokens=finished.num_prompt_tokens,
                        output_tokens=finished.num_generation_tokens,
                        decode_seconds=finished.decode_time,
                        preemptions=getattr(finished, "num_preemptions", 0),  # 0.26 has none
                        engine=self._engine,
                    ),
                )
        if step is not None:
            self._keep_caps(lambda: caps.after_step(self._engine, tells_silent=silent is not None))
        if scheduler_stats is None or scheduler_stats.num_running_reqs + scheduler_stats.num_waiting_reqs:
            return
        if not caps.steps_to_come(self._engine):
            meter.engine_idle(now_seconds, self._engine)

    def _keep_caps(self, look: Callable[[], None]) -> None:
        """A fault in keeping caps costs the caps, and not the meter."""
        try:
            look()
        except Exception as error:
            logger.exception("energy caps are not kept any more")
            self._session.caps.give_up(f"energy caps failed on this version of vLLM ({type(error).__name__}: {error})")

    def _step(
        self,
        scheduler_stats: "SchedulerStats | None",
        iteration_stats: "IterationStats | None",
        now_seconds: float,
        unfinished: int,
    ) -> EngineStep | None:
        details = scheduler_stats.iteration_details if scheduler_stats is not None else None
        if (details is None or details.is_dummy) and iteration_stats is None:
            return None
        seen = iteration_stats
        gaps = seen.inter_token_latencies_iter if seen is not None else []
        first_tokens = len(seen.time_to_first_tokens_iter) if seen is not None else 0
        first_prompt = seen.prompt_token_stats.computed if seen is not None else 0
        given = seen.num_generation_tokens - first_tokens if seen is not None else 0
        sequences = details.num_generation_requests if details is not None else len(gaps)
        computed = details.num_generation_tokens if details is not None else sequences
        return EngineStep(
            ended_at_seconds=now_seconds,
            duration_seconds=details.elapsed_ms / 1000 if details is not None else None,
            # Without --enable-logging-iteration-details a chunk of a prompt is only seen with the prompt's last one.
            prefill_tokens=details.num_ctx_tokens if details is not None else first_prompt,
            decode_sequences=sequences,
            first_tokens=first_tokens,
            first_token_prompt_tokens=first_prompt,
            inter_token_seconds=min(gaps) if gaps else None,
            unfinished_sequences=unfinished,
            prefill_sequences=details.num_ctx_requests if details is not None else first_tokens,
            first_token_context_tokens=seen.prompt_token_stats.total if seen is not None else 0,
            decode_tokens=max(0, given) if self._speculates else None,
            # Drafts look the same as a preempted sequence computed again; only without them are the two told apart.
            recomputed_tokens=0 if self._speculates else max(0, computed - sequences),
            preemptions=seen.num_preempted_reqs if seen is not None else 0,
            first_token_seconds=max(seen.time_to_first_tokens_iter) if seen is not None and first_tokens else None,
            engine=self._engine,
        )


def _silent_sequences(scheduler_stats: "SchedulerStats | None", iteration_stats: "IterationStats | None") -> int | None:
    """How many sequences decoded in a step of which no token came out: aborted, say. None where vLLM does not tell."""
    details = scheduler_stats.iteration_details if scheduler_stats is not None else None
    if details is None:
        return None
    heard = len(iteration_stats.inter_token_latencies_iter) if iteration_stats is not None else 0
    decoded: int = details.num_generation_requests
    return max(0, decoded - heard)


def _failure(error: Exception) -> str:
    return f"the meter failed on this version of vLLM ({type(error).__name__}: {error})"


def _silence_iteration_lines() -> None:
    """The flag that has vLLM report its iterations also has it log each one. We want the numbers, not the lines."""
    logging.getLogger("vllm.v1.metrics.loggers").addFilter(lambda record: "Iteration(" not in record.msg)
