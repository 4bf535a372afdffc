"""Pools of workers for tests of placement, as the core would have them."""

from dataclasses import dataclass

from scheduler.events import RequestArrived, WorkReport
from scheduler.pool import Pool
from scheduler.request import Request
from scheduler.worker import Worker
from scheduler.worker_model import WorkerModel


@dataclass(frozen=True)
class Load:
    """A worker to be: `hardware` None is one that has told nothing for ages."""

    worker_id: str
    running_requests: int = 0
    max_running_requests: int = 4
    hardware: str | None = "h100"


def pool_of(loads: list[Load], waiting_requests: int = 0) -> Pool:
    pool = Pool()
    for number, load in enumerate(loads, start=1):
        pool.refresh(worker_of(load, number))
    pool.waiting_requests = waiting_requests
    pool.running_requests = sum(load.running_requests for load in loads)
    return pool


def worker_of(load: Load, number: int) -> Worker:
    model = WorkerModel(load.hardware or "unknown")
    if load.hardware is not None:
        model.begin(0.0, None)
        model.observe(WorkReport(0, 0.0, 0, 0), 0, 0.0)
    return Worker(
        worker_id=load.worker_id,
        generation=1,
        ready_number=number,
        models=frozenset({"a", "b"}),
        max_running_requests=load.max_running_requests,
        model=model,
        running_requests=load.running_requests,
    )


def request_of(arrival: RequestArrived, *, may_wait: bool = False, at_seconds: float = 0.0) -> Request:
    return Request(
        arrival=arrival,
        arrival_number=0,
        arrived_at_seconds=at_seconds,
        order_at_seconds=at_seconds + 600,
        due_at_seconds=at_seconds + 300,
        prompt_tokens=max(1, arrival.prompt_bytes // 4),
        may_wait=may_wait,
    )
