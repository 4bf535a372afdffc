"""Where what a request cost is written down once it is over, and what its caller is told beside the meter's word."""

import asyncio
import json
import logging
from typing import Final

from metering.counter import MICROJOULES_PER_JOULE
from metering.routes import runs_engine
from server.api_error import ApiError
from server.carbon.account import CarbonAccount
from server.exchange_record import ExchangeRecord
from server.ledger.errors import LedgerUnavailableError
from server.ledger.ledger import Ledger
from server.live.tally import LiveTally
from server.logs import log_exchange
from server.metrics import ServerMetrics

logger = logging.getLogger("wattline.server")

_MICROSECONDS: Final = 6


class RequestBooks:
    """Keeps records in the ledger, each once, and counts them.

    Nothing here may fail a request: a ledger that cannot write has its own way to say so.
    """

    def __init__(
        self, ledger: Ledger, metrics: ServerMetrics, tally: LiveTally, carbon: CarbonAccount | None = None
    ) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._tally = tally
        self._carbon = carbon
        self._keeping: set[asyncio.Task[None]] = set()

    def told_beside(self, record: ExchangeRecord) -> bytes:
        """Fields (`"name":value,…`) for the end of the answer's energy block, and into the record what they rest on."""
        fields: dict[str, object] = {}
        if record.queue_seconds is not None:
            fields["queue_seconds"] = round(record.queue_seconds, _MICROSECONDS)
        if self._carbon is not None:
            carbon = self._carbon.of(record.energy_joules, record.arrived_unix_seconds + record.total_seconds)
            record.carbon_g_co2eq, record.carbon_source = carbon.grams_co2eq, carbon.source
            record.grid_carbon_intensity_gco2perkwhr = carbon.gco2_per_kwh
            fields |= carbon.to_block()
        return json.dumps(fields, separators=(",", ":"))[1:-1].encode()

    async def keep(self, record: ExchangeRecord) -> None:
        """Return once the ledger has it for good; from then on its caller may see the end of the answer."""
        if not record.is_kept:
            record.is_kept = True
            try:
                await self._ledger.record(record.ledger_row())
            except LedgerUnavailableError:
                logger.warning("request %s is answered and not in the ledger yet", record.request_id)

    def keep_later(self, record: ExchangeRecord) -> None:
        """Have it kept; its caller is gone and waits for nothing."""
        if not record.is_kept:
            task = asyncio.get_running_loop().create_task(self.keep(record), name=f"keep {record.row_id}")
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)

    def close(self, record: ExchangeRecord) -> None:
        """It is over, in whatever way: settle it, count it, and tell the access log."""
        self._settle(record)
        self.keep_later(record)
        self._metrics.count(record)
        self._tally.count(record)
        log_exchange(record)

    def charge(self, record: ExchangeRecord, energy_joules: float) -> None:
        """A worker tells what a request used whose answer its caller never saw the end of."""
        self._metrics.charge(record, energy_joules)
        self._tally.charge(record, energy_joules)
        microjoules = round(energy_joules * MICROJOULES_PER_JOULE)
        self._ledger.charge(record.row_id, microjoules)
        if record.admission is not None:
            record.admission.charge(microjoules)

    def _settle(self, record: ExchangeRecord) -> None:
        """Book the request to its tenant's limits and budgets, and give its place back. Only the first call counts."""
        if record.admission is None:
            return
        is_refused = record.outcome == "refused" and record.energy_joules is None
        if record.worker_id is None or is_refused:  # it never ran
            record.admission.settle(0, 0)
            return
        prompt, output = record.prompt_tokens, record.output_tokens
        tokens = None if prompt is None or output is None else prompt + output
        energy_microjoules = record.cost.energy_microjoules if runs_engine(record.endpoint) else 0
        record.admission.settle(energy_microjoules, tokens)

    def require_ledger(self) -> None:
        """Go on if what is about to be served can be kept, or need not be.

        Raises:
            ApiError: 503, where requests are to be refused while the ledger is down.
        """
        try:
            self._ledger.require_available()
        except LedgerUnavailableError as error:
            raise ApiError(
                503, "the ledger is not available", "ledger_unavailable", headers={"Retry-After": "5"}
            ) from error

    async def kept(self) -> None:
        """Wait for all that is to be kept later."""
        await asyncio.gather(*self._keeping, return_exceptions=True)
