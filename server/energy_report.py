"""The shape of a worker's `GET /energy`, checked whole before any of it is believed."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _encodable(text: str) -> str:
    text.encode()  # a lone surrogate would spoil every page it is shown on; its UnicodeEncodeError is a ValueError
    return text


Name = Annotated[str, Field(max_length=256), AfterValidator(_encodable)]
Reason = Annotated[str, Field(max_length=4096), AfterValidator(_encodable)]
Microjoules = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Watts = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Account = Literal["prefill", "decode", "idle", "loading", "unattributed"]


class EndedRequest(BaseModel):
    """A request that has ended in the engine."""

    request_id: str
    outcome: str
    prefill_microjoules: Microjoules
    decode_microjoules: Microjoules


class Work(BaseModel):
    """What an engine has done since it started."""

    steps_total: Count
    step_seconds_total: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    decode_tokens_total: Count
    prefill_tokens_total: Count
    loading_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    kv_cache_usage_ratio: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class EnergyReport(BaseModel):
    """What a worker says of its energy, but for the requests that ended. Unknown fields are left to newer versions."""

    model_config = ConfigDict(extra="ignore")

    instance_id: str | None = None
    model: Name | None = None
    source: Name | None = None
    measured: bool = False
    reason: Reason | None = None
    power_watts: dict[Name, Watts | None] = {}
    in_flight_microjoules: dict[Name, dict[str, Microjoules]] = {}
    accounts_microjoules: dict[Name, dict[Account, Microjoules]] = {}
    counter_faults: dict[Name, dict[Name, Count]] = {}
    running_requests: Count = 0
    waiting_requests: Count = 0
    work: Work | None = None
