"""`GET /v1/energy/live` as this side reads it: what may be missing may be missing, what is new is left alone."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from server.printable import printable
from server.top.errors import NotWattlineError

# Far beyond whatever was measured, and so few that all can be added up and drawn.
_MOST: Final = 1e18


def _printable(value: Any) -> Any:  # noqa: ANN401  # whatever the server sent
    return printable(value) if isinstance(value, str) else value


def _or_empty(value: Any) -> Any:  # noqa: ANN401  # whatever the server sent
    return {} if value is None else value


Number = Annotated[float, Field(ge=-_MOST, le=_MOST, allow_inf_nan=False)]
Known = Number | None
"""A quantity, or None for what the server does not know."""
Count = Annotated[int, Field(ge=-_MOST, le=_MOST)]
Words = Annotated[str, BeforeValidator(_printable)]
"""Whoever wrote it: names of models are their engines', and terminals obey what does not print."""
Parts = Annotated[Mapping[Words, Known], BeforeValidator(_or_empty)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class LiveWorker(_Body):
    """One worker. `reason` says why what it spends is not known, or not measured."""

    worker_id: Words
    model: Words | None = None
    state: Words = "unknown"
    running_requests: Count | None = None
    waiting_requests: Count | None = None
    power_watts: Parts = {}
    measured: bool | None = None
    source: Words | None = None
    reason: Words | None = None
    energy_joules: Known = None
    output_tokens_per_second: Known = None


class LiveBudget(_Body):
    """What a tenant may use in a period, and what is left of it."""

    period: Words
    budget_joules: Known = None
    remaining_joules: Known = None


class LiveTenant(_Body):
    """One tenant's share."""

    tenant: Words
    energy_joules: Known = None
    requests: Count | None = None
    output_tokens: Count | None = None
    budgets: tuple[LiveBudget, ...] = ()


class LiveRequest(_Body):
    """A request that has ended."""

    request_id: Words
    ended_unix_seconds: Number
    tenant: Words | None = None
    model: Words | None = None
    tier: Words | None = None
    outcome: Words | None = None
    prompt_tokens: Count | None = None
    output_tokens: Count | None = None
    energy_joules: Known = None
    measured: bool | None = None
    reason: Words | None = None
    duration_seconds: Known = None


class LiveBody(_Body):
    """The whole answer. `reason` says why a sum over the workers is not the whole, where it is not."""

    object: Literal["energy.live"]
    at_unix_seconds: Number
    started_unix_seconds: Known = None
    version: Words | None = None
    policy: Words | None = None
    targets: Parts = {}
    power_watts: Parts = {}
    accounts_joules: Parts = {}
    in_flight_joules: Known = None
    measured: bool | None = None
    sources: tuple[Words, ...] = ()
    reason: Words | None = None
    requests: Parts = {}
    tokens: Parts = {}
    joules_per_output_token: Parts = {}
    queue_requests: Parts = {}
    latency: Parts = {}
    workers: tuple[LiveWorker, ...] = ()
    tenants: tuple[LiveTenant, ...] = ()
    recent_requests: tuple[LiveRequest, ...] = ()


def read_live_body(body: object) -> LiveBody:
    """What the server sent, understood.

    Raises:
        NotWattlineError: it is something else.
    """
    try:
        return LiveBody.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        what = printable(f"{where}: {first['msg']}")
        raise NotWattlineError(f"what it answers is not what this wattline reads: {what}") from error


def total_watts(power_watts: Mapping[str, Known]) -> float | None:
    """All components together; None where one of them, or every one, is not known."""
    watts = list(power_watts.values())
    known = [value for value in watts if value is not None]
    return sum(known) if watts and len(known) == len(watts) else None
