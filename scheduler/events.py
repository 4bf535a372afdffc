"""What the outside world tells the scheduler.

Events are facts, already true when they are handed over; the instant at which one is handled is an argument of
`Scheduler.handle`. They carry sizes and names, never prompts or completions.
"""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class RequestArrived:
    """A caller wants `model`.

    `request_id` is unique among the requests now queued or running. `tier` is one of `scheduler.tiers.TIERS`.
    `prompt_tokens` is None where nobody has counted them; they are then predicted from `prompt_bytes`, the length of
    the prompt's text. `max_output_tokens` is None where the caller set no bound. `deadline_at_seconds` is the instant,
    on the scheduler's clock, after which starting it is useless.
    """

    request_id: str
    model: str
    tier: str = "default"
    prompt_bytes: int = 0
    max_output_tokens: int | None = None
    deadline_at_seconds: float | None = None
    tenant: str = "anonymous"
    prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class RequestFinished:
    """The worker is done with the request, well or badly; it will not be placed again.

    The token counts are the engine's own, None where it told none; lengths of later requests are predicted from them.
    `ttft_seconds` from arrival to the first token and `tpot_seconds` from token to token after it are what the caller
    saw, None where nobody could: how far predictions may be relied on is learned from them.
    """

    request_id: str
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    ttft_seconds: float | None = None
    tpot_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RequestCancelled:
    """Nobody waits for the request any more; the sender sees to it that a running one is aborted in the engine."""

    request_id: str


@dataclass(frozen=True, slots=True)
class DispatchFailed:
    """The worker failed before any byte reached the client: the request may run elsewhere.

    It waits at its original place in the order of its tier, and avoids the worker until that one reports ready anew.
    """

    request_id: str
    worker_id: str


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker serves `models`, at most `max_running_requests` of ours at a time.

    From a worker that was lost, parked, or is new, it opens a generation that starts from no load. From one that is
    still here it replaces models and capacity, and keeps the load. `hardware` names a class of
    `scheduler.hardware.HARDWARE`. `can_park` is true where somebody obeys `Park` and `Start` for it. `start_seconds`
    is what its last start took, None where nobody measured it.
    """

    worker_id: str
    models: frozenset[str]
    max_running_requests: int
    hardware: str = "unknown"
    can_park: bool = False
    start_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class WorkReport:
    """What an engine has done since it started: totals that never fall, by the engine's own clock and counters.

    `steps` forward passes took `step_seconds` in all, advanced `decode_tokens` (one for each sequence and pass) and
    computed `prefill_tokens`. `energy_joules` is all that the engine's counters have risen by since it started,
    whatever for, and `loading_joules` the part spent before it was ready, in `loading_seconds` from the first look at
    the counters; each None where nothing measures it.
    `kv_cache_usage_ratio` is the share of the KV cache taken now, None where the engine does not say.
    """

    steps: int
    step_seconds: float
    decode_tokens: int
    prefill_tokens: int
    energy_joules: float | None = None
    loading_joules: float | None = None
    loading_seconds: float | None = None
    kv_cache_usage_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerReported:
    """An engine's own count of its sequences, requests from elsewhere included. Telemetry, not our accounting.

    `work` is None from an engine that does not meter itself.
    """

    worker_id: str
    running_requests: int
    waiting_requests: int
    work: WorkReport | None = None


@dataclass(frozen=True, slots=True)
class WorkerParked:
    """A worker's process has been stopped because `Park` asked for it; it serves again after `Start`."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker stopped serving. Each request it ran is reported on its own, now or later.

    `cause` is for people. `may_return` is False where nobody will start it again; requests for a model that no
    other worker serves are then refused instead of waiting in vain. `returns_in_seconds` is when it is expected back,
    None where nobody can say: while every worker of a model is lost so, new requests for it are refused, and those
    that wait go on waiting.
    """

    worker_id: str
    cause: str
    may_return: bool = True
    returns_in_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class DrainStarted:
    """Take no new request; those already admitted are still placed and served."""


RequestEvent: TypeAlias = RequestArrived | RequestFinished | RequestCancelled | DispatchFailed
WorkerEvent: TypeAlias = WorkerReady | WorkerReported | WorkerParked | WorkerLost
Event: TypeAlias = RequestEvent | WorkerEvent | DrainStarted
