"""What the scheduler holds at one instant, for metrics and for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from scheduler.awake import Awake
from scheduler.fleet import WorkerRecord
from scheduler.lane import Lane
from scheduler.targets import LatencyTargets

_SHOWN_BATCHES: Final = (1, 8, 32, 128)


@dataclass(frozen=True, slots=True)
class LearnedSnapshot:
    """What is believed of a worker's steps: seconds and watts by batch size. `is_known` once they were observed.

    `largest_batch` is what the time-per-output-token target allows while no prompt is computed, 0 where it allows none.
    """

    is_known: bool
    is_trusted: bool
    step_seconds_by_batch: Mapping[int, float]
    watts_by_batch: Mapping[int, float]
    prefill_token_seconds: float
    largest_batch: int
    idle_watts: float
    parked_watts: float
    start_seconds: float
    start_joules: float


@dataclass(frozen=True, slots=True)
class WorkerSnapshot:
    """A worker, whatever its state.

    `generation` counts its lives, from 1. The `reported` numbers are the engine's own, None before its first report.
    `predicted_watts` is what it is believed to draw now, `prefill_ratio` the share of its time that prompts take.
    """

    worker_id: str
    state: str
    generation: int
    models: tuple[str, ...]
    running_requests: int
    max_running_requests: int
    reported_running_requests: int | None
    reported_waiting_requests: int | None
    predicted_watts: float
    prefill_ratio: float
    idle_seconds: float | None
    learned: LearnedSnapshot


@dataclass(frozen=True, slots=True)
class LaneSnapshot:
    """One model: who waits, and how many workers it keeps busy and wants awake.

    `held_reason` is why the first of those that wait does so although there is room, None where there is none.
    """

    model: str
    queued_requests_by_tier: Mapping[str, int]
    running_requests: int
    held_reason: str | None
    demand_workers: float
    wanted_workers: int
    awake_workers: int


@dataclass(frozen=True, slots=True)
class SchedulerSnapshot:
    """Queue and workers; a tier nobody waits in is not listed.

    `running_requests` also counts those whose worker was lost and whose end is not reported yet, so it may exceed
    the sum over `workers`.
    """

    queued_requests_by_tier: Mapping[str, int]
    queued_requests: int
    running_requests: int
    workers: tuple[WorkerSnapshot, ...]
    lanes: tuple[LaneSnapshot, ...]
    predicted_watts: float
    power_cap_watts: float | None
    is_draining: bool


def worker_snapshot(record: WorkerRecord, targets: LatencyTargets, now_seconds: float) -> WorkerSnapshot:
    """One worker as it is now."""
    worker = record.worker
    reported = None if worker is None else worker.reported
    idle_since_seconds = None if worker is None else worker.idle_since_seconds
    return WorkerSnapshot(
        worker_id=record.worker_id,
        state=record.phase.value,
        generation=record.generation,
        models=tuple(sorted(record.models)),
        running_requests=0 if worker is None else worker.running_requests,
        max_running_requests=0 if worker is None else worker.max_running_requests,
        reported_running_requests=None if reported is None else reported.running_requests,
        reported_waiting_requests=None if reported is None else reported.waiting_requests,
        predicted_watts=record.watts,
        prefill_ratio=0.0 if worker is None else worker.prefill_ratio(now_seconds),
        idle_seconds=None if idle_since_seconds is None else now_seconds - idle_since_seconds,
        learned=_learned(record, targets, now_seconds),
    )


def lane_snapshot(lane: Lane, awake: Awake, now_seconds: float) -> LaneSnapshot:
    """One model's lane as it is now."""
    wanted, demand_workers = awake.forecast(lane, now_seconds)
    return LaneSnapshot(
        model=lane.model,
        queued_requests_by_tier={tier: count for tier, count in lane.queued_by_tier.items() if count},
        running_requests=lane.pool.running_requests,
        held_reason=None if lane.is_empty else lane.held_reason,
        demand_workers=demand_workers,
        wanted_workers=wanted,
        awake_workers=lane.awake_workers,
    )


def _learned(record: WorkerRecord, targets: LatencyTargets, now_seconds: float) -> LearnedSnapshot:
    model = record.model
    places = record.worker.max_running_requests if record.worker is not None else _SHOWN_BATCHES[-1]
    return LearnedSnapshot(
        is_known=model.is_known,
        is_trusted=record.worker is not None and model.is_trusted(now_seconds),
        step_seconds_by_batch={batch: model.steps.at(batch) for batch in _SHOWN_BATCHES},
        watts_by_batch={batch: model.power.at(batch) for batch in _SHOWN_BATCHES},
        prefill_token_seconds=model.prefill_token_seconds,
        largest_batch=model.steps.largest_batch(targets.tpot_seconds, max(1, places)),
        idle_watts=model.idle_watts,
        parked_watts=model.parked_watts,
        start_seconds=model.start_seconds,
        start_joules=model.start_joules,
    )
