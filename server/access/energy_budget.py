"""What a tenant has spent, in integer microjoules, in the present UTC day and month."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from metering.counter import MICROJOULES_PER_JOULE
from server.access.tenants import TenantSettings

SpentSince = Callable[[str, float], int]
"""Microjoules that a tenant has spent since an instant of the Unix epoch, as the ledger knows it."""


class Period(StrEnum):
    """What a budget is for. Both begin at midnight UTC."""

    DAY = "day"
    MONTH = "month"

    def bounds(self, unix_seconds: float) -> tuple[float, float]:
        """When the one that holds this instant began, and when the next begins."""
        whole_seconds = math.floor(unix_seconds)  # a fraction could be rounded up into the next day
        midnight = datetime.fromtimestamp(whole_seconds, UTC).replace(hour=0, minute=0, second=0)
        if self is Period.DAY:
            return midnight.timestamp(), (midnight + timedelta(days=1)).timestamp()
        first = midnight.replace(day=1)
        return first.timestamp(), (first + timedelta(days=31)).replace(day=1).timestamp()


@dataclass(frozen=True, slots=True)
class BudgetState:
    """One budget of one tenant at one moment. What was spent may exceed the limit by the cost of what was in flight."""

    period: Period
    limit_microjoules: int
    spent_microjoules: int
    renews_unix_seconds: float

    @property
    def remaining_microjoules(self) -> int:
        return max(0, self.limit_microjoules - self.spent_microjoules)


class _PeriodSpending:
    __slots__ = ("ends_unix_seconds", "period", "spent_microjoules")

    def __init__(self, period: Period, spent_microjoules: int, ends_unix_seconds: float) -> None:
        self.period = period
        self.spent_microjoules = spent_microjoules
        self.ends_unix_seconds = ends_unix_seconds

    def roll(self, now_unix_seconds: float) -> None:
        """A wall clock that is set back reopens no period that has ended."""
        if now_unix_seconds >= self.ends_unix_seconds:
            self.spent_microjoules = 0
            _, self.ends_unix_seconds = self.period.bounds(now_unix_seconds)


class EnergySpending:
    """Counts a tenant's joules, whether there is a budget for them or not: one may be set at any time."""

    __slots__ = ("_limits_microjoules", "_periods")

    def __init__(self, tenant: str, spent_since: SpentSince, now_unix_seconds: float) -> None:
        periods = []
        for period in Period:
            began, ends = period.bounds(now_unix_seconds)
            periods.append(_PeriodSpending(period, spent_since(tenant, began), ends))
        self._periods = tuple(periods)
        self._limits_microjoules: tuple[tuple[_PeriodSpending, int], ...] = ()

    def limit(self, settings: TenantSettings) -> None:
        """Hold the spending to these budgets from now on."""
        joules = (settings.energy_joules_per_day, settings.energy_joules_per_month)
        self._limits_microjoules = tuple(
            (spending, math.floor(limit * MICROJOULES_PER_JOULE))
            for spending, limit in zip(self._periods, joules, strict=True)
            if limit is not None
        )

    def spend(self, microjoules: int, now_unix_seconds: float) -> None:
        """Count energy that became known now."""
        for spending in self._periods:
            spending.roll(now_unix_seconds)
            spending.spent_microjoules += microjoules

    def least_remaining(self, now_unix_seconds: float) -> tuple[int, Period] | None:
        """Microjoules left of the tightest budget and its period, None where there is no budget."""
        least: tuple[int, Period] | None = None
        for spending, limit in self._limits_microjoules:
            if now_unix_seconds >= spending.ends_unix_seconds:
                spending.roll(now_unix_seconds)
            remaining = max(0, limit - spending.spent_microjoules)
            # Of two that are spent the month's counts: it renews no earlier than the day's.
            if least is None or remaining <= least[0]:
                least = remaining, spending.period
        return least

    def budgets(self, now_unix_seconds: float) -> list[BudgetState]:
        """Every budget there is, the day's before the month's."""
        states = []
        for spending, limit in self._limits_microjoules:
            spending.roll(now_unix_seconds)
            states.append(BudgetState(spending.period, limit, spending.spent_microjoules, spending.ends_unix_seconds))
        return states

    def spent_budget(self, now_unix_seconds: float) -> BudgetState:
        """Of the budgets that are spent, of which there must be one, that which renews last."""
        return [budget for budget in self.budgets(now_unix_seconds) if not budget.remaining_microjoules][-1]

    def spent_microjoules(self, period: Period, now_unix_seconds: float) -> int:
        """What was spent in the present one, budget or not."""
        for spending in self._periods:
            if spending.period is period:
                spending.roll(now_unix_seconds)
                return spending.spent_microjoules
        raise KeyError(period)
