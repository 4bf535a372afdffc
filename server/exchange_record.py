"""What is known of one exchange: the record that metrics, logs and the ledger are made from. Never the text."""

from dataclasses import dataclass, field, replace
from typing import Final

from metering.routes import runs_engine
from server.access.admission import Admission
from server.cost import NO_COST, Cost
from server.ledger.row import LedgerRow

# No status was sent, or none that came true; this one is nginx's for it, and so that of many a log.
_CALLER_LEFT: Final = 499


@dataclass(slots=True)
class ExchangeRecord:
    """One request and its answer. Durations in seconds since arrival; None is unknown or does not apply.

    `row_id` is its own in the ledger, where `request_id` may be the caller's and come again. `is_kept` once the ledger
    has been given it; `admission` is its place within its tenant's limits. `held_up_seconds` is how long its caller let
    a stream wait.
    """

    request_id: str
    endpoint: str
    tenant: str
    model: str
    tier: str
    row_id: str = ""
    key_id: str | None = None
    arrived_unix_seconds: float = 0.0
    is_stream: bool = False
    outcome: str = "failed"
    status: int = 500
    error_code: str | None = None
    worker_id: str | None = None
    queue_seconds: float | None = None
    first_byte_seconds: float | None = None
    total_seconds: float = 0.0
    held_up_seconds: float = 0.0
    cost: Cost = field(default=NO_COST)
    carbon_g_co2eq: float | None = None
    grid_carbon_intensity_gco2perkwhr: float | None = None
    carbon_source: str | None = None
    is_kept: bool = False
    admission: Admission | None = field(default=None, repr=False)

    @property
    def prompt_tokens(self) -> int | None:
        return self.cost.prompt_tokens

    @property
    def output_tokens(self) -> int | None:
        return self.cost.output_tokens

    @property
    def energy_joules(self) -> float | None:
        return self.cost.energy_joules

    @property
    def energy_source(self) -> str | None:
        return self.cost.source

    @property
    def is_charged_later(self) -> bool:
        """Whether it ran, and its answer did not tell what that cost: an error does not, nor what is no JSON object."""
        if self.outcome == "refused" or self.cost.energy_microjoules is not None:
            return False
        return self.outcome == "failed" or (self.cost.reason is None and runs_engine(self.endpoint))

    def abort(self) -> None:
        """Its caller left before the end."""
        self.outcome, self.status = "aborted", _CALLER_LEFT

    def file_under(self, source: str | None, *, is_measured: bool) -> None:
        """Note what measures the energy that is told later, of an answer that has not told it."""
        if self.cost.energy_microjoules is None:
            self.cost = replace(self.cost, source=source, is_measured=is_measured)

    def ledger_row(self) -> LedgerRow:
        """The record as the ledger keeps it. Instants follow from the arrival: wall clocks are not subtracted."""
        cost = self.cost
        return LedgerRow(
            row_id=self.row_id,
            request_id=self.request_id,
            arrived_unix_seconds=self.arrived_unix_seconds,
            ended_unix_seconds=self.arrived_unix_seconds + self.total_seconds,
            tenant=self.tenant,
            key_id=self.key_id,
            endpoint=self.endpoint,
            model=self.model,
            tier=self.tier,
            worker_id=self.worker_id,
            outcome=self.outcome,
            status=self.status,
            error_code=self.error_code,
            is_stream=self.is_stream,
            prompt_tokens=cost.prompt_tokens,
            output_tokens=cost.output_tokens,
            energy_microjoules=cost.energy_microjoules,
            prefill_microjoules=cost.prefill_microjoules,
            decode_microjoules=cost.decode_microjoules,
            energy_source=cost.source,
            is_measured=cost.is_measured,
            energy_reason=cost.reason,
            uncertainty_ratio=cost.uncertainty_ratio,
            carbon_g_co2eq=self.carbon_g_co2eq,
            grid_carbon_intensity_gco2perkwhr=self.grid_carbon_intensity_gco2perkwhr,
            carbon_source=self.carbon_source,
            queue_seconds=self.queue_seconds,
            first_token_seconds=self.first_byte_seconds,
            total_seconds=self.total_seconds,
            components_microjoules=cost.components_microjoules,
        )
