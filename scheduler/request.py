"""One request while the scheduler knows it: the only mutable thing about requests."""

from dataclasses import dataclass

from scheduler.errors import ProtocolError
from scheduler.events import RequestArrived
from scheduler.lifecycle import RequestState, next_state
from scheduler.tiers import DEFAULT, FLEX, TIERS
from scheduler.worker import Worker


@dataclass(slots=True, eq=False)
class Request:
    """A request that is queued or running.

    `arrival_number` counts arrivals. `order_at_seconds` is its own deadline, or the end of its patience: of requests of
    one rank the earliest goes first. Both survive a retry. `prompt_tokens` are counted or predicted, `output_tokens`
    predicted. `is_due` is false while it is one that can wait, until `due_at_seconds` or its turn; under a policy that
    holds requests, `is_holdable`, it may be held back so long though there is room. `worker` is the generation it runs
    on, None while queued. `ready_number` is the last worker's at the instant of dispatch, None before the first, and
    `avoided_ready_numbers` are those of the workers which failed it: one that reports ready anew has another number.
    `prefill_seconds` is how long its prompt was predicted to take on the last worker, until `prefilled_at_seconds`.
    """

    arrival: RequestArrived
    arrival_number: int
    arrived_at_seconds: float
    order_at_seconds: float
    due_at_seconds: float
    prompt_tokens: int
    output_tokens: float
    is_due: bool
    is_holdable: bool
    state: RequestState = RequestState.ABSENT
    worker: Worker | None = None
    ready_number: int | None = None
    avoided_ready_numbers: frozenset[int] = frozenset()
    queued_at_seconds: float = 0.0
    dispatched_at_seconds: float = 0.0
    prefill_seconds: float = 0.0
    prefilled_at_seconds: float = 0.0

    @property
    def order(self) -> tuple[int, float, int]:
        """Its place among those that wait: tier, deadline, arrival. A flex request that is due counts as default."""
        tier = DEFAULT if self.arrival.tier == FLEX and self.is_due else self.arrival.tier
        return TIERS.get(tier, TIERS[DEFAULT]), self.order_at_seconds, self.arrival_number

    @property
    def may_wait(self) -> bool:
        """Whether it may be held back though there is room."""
        return self.is_holdable and not self.is_due

    @property
    def was_dispatched(self) -> bool:
        return self.ready_number is not None

    def advance(self, happened: type) -> None:
        """Take the step that the life-cycle table gives for `happened`.

        Raises:
            ProtocolError: the table has no such step; the request is unchanged.
        """
        self.state = next_state(self.state, happened, self.arrival.request_id)

    def may_use(self, worker: Worker) -> bool:
        """Whether the worker has not failed it in this life."""
        return worker.ready_number not in self.avoided_ready_numbers

    def place_on(self, worker: Worker) -> None:
        """Take one of the worker's places."""
        worker.running_requests += 1
        self.worker = worker
        self.ready_number = worker.ready_number

    def leave_worker(self) -> Worker:
        """Give the place back to the generation it was taken from, lost or not.

        Raises:
            ProtocolError: the request has no place.
        """
        worker = self.worker
        if worker is None:
            message = f"request {self.arrival.request_id} is {self.state.value} and has no place to give back"
            raise ProtocolError(message)
        worker.running_requests -= 1
        self.worker = None
        return worker

    def avoid_last_worker(self) -> None:
        """Not again where it ran last, until that worker reports ready anew."""
        if self.ready_number is not None:
            self.avoided_ready_numbers |= {self.ready_number}
