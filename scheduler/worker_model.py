"""What one worker's steps cost in seconds and watts, learned from what it reports.

Knows nothing of queues or placement. A model outlives the worker's generations: a process that is stopped and started
again runs on the same hardware.
"""

from math import inf, isfinite
from typing import Final

from scheduler.curve import MonotoneCurve
from scheduler.events import WorkReport
from scheduler.hardware import HARDWARE, hardware_class

# Without a report for so long, what was learned is no guide to what is going on.
_FRESH_SECONDS: Final = 10.0
_WEIGHT_OF_NEWEST: Final = 0.2
_AMOUNTS: Final = (
    *("steps", "step_seconds", "decode_tokens", "prefill_tokens"),
    *("energy_joules", "loading_joules", "loading_seconds"),
)
# Prefill is only seen through the part of the time that it explains; it is corrected by a third of that.
_PREFILL_GAIN: Final = 0.3
_MOST_RATIO: Final = 4.0
# Shorter stretches say more of the counter's grain than of the engine.
_LEAST_STRETCH_SECONDS: Final = 0.2
# Power is learned from stretches in which the engine was busy for at least this share of the time.
_LEAST_BUSY_RATIO: Final = 0.5
# Whatever a start is believed to cost: so short a pause says nothing of what comes.
_LEAST_IDLE_SECONDS: Final = 10.0
# Of unknown hardware only what it draws idle can be seen; bare, GPUs that were measured draw 0.59 (H100) to 0.67 (A100)
# of that (arXiv 2605.23918).
_BARE_RATIO: Final = 0.6
# So many stretches until the steps are taken for known, where a decision cannot be taken back.
_KNOWN_STRETCHES: Final = 3
# So many until what was learned of power is worth comparing with: of the prior of idling 1 % is left by then.
_KNOWN_POWER_STRETCHES: Final = 3
_KNOWN_IDLE_STRETCHES: Final = 20
# vLLM's smallest budget of tokens for one step of online serving: a longer prompt takes several steps, and each of them
# decodes too.
_CHUNK_TOKENS: Final = 2048
_SHORT_RATIO: Final = 0.25


class WorkerModel:
    """Step seconds and watts against batch size, prefill seconds a token, and what idling and starting cost.

    `trouble` says why the latest telemetry could not be used, None while it can.
    """

    def __init__(self, hardware: str) -> None:
        prior = hardware_class(hardware)
        self.hardware = hardware
        self._is_unknown = prior is HARDWARE["unknown"]
        self._has_gpu_prior = prior not in (HARDWARE["unknown"], HARDWARE["cpu"])
        self.steps = MonotoneCurve(prior.step_seconds)
        self.power = MonotoneCurve(prior.watts)
        self.prefill_token_seconds = prior.prefill_token_seconds
        self.parked_watts = prior.parked_watts
        self.idle_watts = prior.idle_watts
        self.start_seconds = prior.start_seconds
        self.start_joules = prior.start_joules
        self.kv_cache_usage_ratio = 0.0
        self.trouble: str | None = None
        self.stretches = 0
        self._last: WorkReport | None = None
        self._last_at_seconds = -inf
        self._good_at_seconds = -inf
        self._is_start_measured = False
        self._power_stretches = 0
        self._idle_stretches = 0

    @property
    def is_energy_known(self) -> bool:
        """Whether steps and power were observed, and idling too where no class of GPU tells it."""
        is_idle_known = self._has_gpu_prior or self._idle_stretches >= _KNOWN_IDLE_STRETCHES
        return self.is_known and is_idle_known and self._power_stretches >= _KNOWN_POWER_STRETCHES

    @property
    def is_known(self) -> bool:
        """Whether the steps were observed, not only believed."""
        return self.stretches >= _KNOWN_STRETCHES

    def begin(self, now_seconds: float, start_seconds: float | None) -> None:
        """The worker has become ready: its totals begin anew, and it gets some time for its first report."""
        self._last = None
        self._good_at_seconds = now_seconds
        self.kv_cache_usage_ratio = 0.0
        self.trouble = None
        if start_seconds is not None and 0 < start_seconds < inf:
            self.start_seconds = start_seconds
            self._is_start_measured = True

    def is_trusted(self, now_seconds: float) -> bool:
        """Whether the worker tells, now, what can be believed."""
        return self.trouble is None and now_seconds - self._good_at_seconds <= _FRESH_SECONDS

    def observe(self, work: WorkReport | None, running_requests: int, now_seconds: float) -> None:
        """Take in a report; one that makes no sense is named in `trouble` and teaches nothing."""
        if work is None:
            return
        self.trouble = _nonsense(work)
        if self.trouble is not None:
            self._last = None
            return
        last, last_at_seconds = self._last, self._last_at_seconds
        self._last, self._last_at_seconds = work, now_seconds
        self.kv_cache_usage_ratio = work.kv_cache_usage_ratio or 0.0
        self._learn_start(work)
        if last is None or _has_restarted(last, work):
            self._good_at_seconds = now_seconds
            return
        elapsed_seconds = now_seconds - last_at_seconds
        if work.steps > last.steps or running_requests == 0:
            self._good_at_seconds = now_seconds
        if elapsed_seconds >= _LEAST_STRETCH_SECONDS:
            self._learn_stretch(last, work, elapsed_seconds, is_idle=running_requests == 0)
        else:
            self._last, self._last_at_seconds = last, last_at_seconds

    def prefill_seconds(self, prompt_tokens: float, batch: float) -> float:
        """How long the engine takes to compute a prompt among `batch` sequences that go on decoding meanwhile."""
        return prompt_tokens * (self.prefill_token_seconds + self.steps.at(batch) / _CHUNK_TOKENS)

    def stall_budget_seconds(self, batch: float, output_tokens: float, target_seconds: float) -> float:
        """For how long prompts may hold up short answers, so that their mean time between tokens stays in the target.

        While prompts wait, each step takes a chunk of them and gives each answer one token. An answer all of whose
        tokens fall into such steps is as slow as they are; the fraction of its tokens that may do so follows from the
        target. A short answer is taken to have a quarter of the expected tokens.
        """
        decode_seconds = self.steps.at(batch)
        chunk_seconds = decode_seconds + _CHUNK_TOKENS * self.prefill_token_seconds
        if chunk_seconds <= target_seconds or decode_seconds >= target_seconds:
            return inf
        ratio = (target_seconds - decode_seconds) / (chunk_seconds - decode_seconds)
        return chunk_seconds * ratio * output_tokens * _SHORT_RATIO

    def watts(self, running_requests: int) -> float:
        """Predicted power with so many requests running."""
        if running_requests == 0:
            return self.idle_watts
        return max(self.idle_watts, self.power.at(running_requests))

    @property
    def worthwhile_idle_seconds(self) -> float:
        """Idle for so long, it has spent what starting it again costs: the ski-rental rule's instant to park.

        Stopping then costs at most twice what the best choice in hindsight would have (Karlin et al., Competitive
        snoopy caching, 1988). Infinite where a parked worker draws no less than an idle one.
        """
        saved_watts = self.idle_watts - self.parked_watts
        return max(_LEAST_IDLE_SECONDS, self.start_joules / saved_watts) if saved_watts > 0 else inf

    def _learn_start(self, work: WorkReport) -> None:
        if work.loading_joules is not None and work.loading_joules > 0 and self._is_start_measured:
            # What the bare hardware would have drawn meanwhile is no cost of starting. On a GPU the meter begins to
            # look 15 to 20 s after the process began; until then the process does not touch the board.
            seconds = self.start_seconds if work.loading_seconds is None else work.loading_seconds
            self.start_joules = max(0.0, work.loading_joules - self.parked_watts * min(seconds, self.start_seconds))

    def _learn_stretch(self, last: WorkReport, work: WorkReport, elapsed_seconds: float, *, is_idle: bool) -> None:
        steps, seconds = work.steps - last.steps, work.step_seconds - last.step_seconds
        batch = 0.0
        if steps > 0 and seconds > 0:
            batch = (work.decode_tokens - last.decode_tokens) / steps
            self._learn_steps(steps, seconds, batch, work.prefill_tokens - last.prefill_tokens)
        if last.energy_joules is not None and work.energy_joules is not None:
            power_watts = (work.energy_joules - last.energy_joules) / elapsed_seconds
            self._learn_power(power_watts, min(1.0, seconds / elapsed_seconds), batch, is_idle=is_idle)

    def _learn_steps(self, steps: int, seconds: float, batch: float, prefill_tokens: int) -> None:
        """Blame what was predicted wrong on decoding and on prefill, each by its part of the prediction."""
        decode_seconds = steps * self.steps.at(batch)
        prefill_seconds = prefill_tokens * self.prefill_token_seconds
        predicted_seconds = decode_seconds + prefill_seconds
        ratio = max(1 / _MOST_RATIO, min(_MOST_RATIO, seconds / predicted_seconds))
        decode_share = decode_seconds / predicted_seconds
        self.steps.observe(max(1.0, batch), self.steps.at(batch) * ratio, decode_share)
        self.prefill_token_seconds *= ratio ** (_PREFILL_GAIN * (1 - decode_share))
        self.stretches += 1

    def _learn_power(self, power_watts: float, busy_ratio: float, batch: float, *, is_idle: bool) -> None:
        if power_watts < 0 or not isfinite(power_watts):
            return
        # An engine that hangs makes no steps either, and its energy is told when the step ends.
        if busy_ratio == 0 and is_idle:
            self.idle_watts += _WEIGHT_OF_NEWEST * (power_watts - self.idle_watts)
            self._idle_stretches += 1
            if self._is_unknown:
                self.parked_watts = _BARE_RATIO * self.idle_watts
        elif busy_ratio >= _LEAST_BUSY_RATIO:
            active_watts = (power_watts - self.idle_watts * (1 - busy_ratio)) / busy_ratio
            self.power.observe(max(1.0, batch), active_watts, busy_ratio)
            self._power_stretches += 1


def _nonsense(work: WorkReport) -> str | None:
    """What makes the report unusable, or None."""
    for name in _AMOUNTS:
        value = getattr(work, name)
        if value is not None and not 0 <= value < inf:  # written so that NaN fails too
            return f"{name} is {value}, expected a finite number of at least 0"
    if work.steps > 0 and work.step_seconds <= 0:
        return f"{work.steps} steps are said to have taken {work.step_seconds} s"
    ratio = work.kv_cache_usage_ratio
    if ratio is not None and not 0 <= ratio <= 1:
        return f"kv_cache_usage_ratio is {ratio}, expected 0 to 1"
    return None


def _has_restarted(last: WorkReport, work: WorkReport) -> bool:
    """Totals fall only where another process counts."""
    if work.steps < last.steps or work.step_seconds < last.step_seconds:
        return True
    if work.decode_tokens < last.decode_tokens or work.prefill_tokens < last.prefill_tokens:
        return True
    return (work.energy_joules or 0.0) < (last.energy_joules or 0.0)
