from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.access.energy_budget import EnergySpending, Period
from server.access.tenants import TenantSettings

DAY = 86_400.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NOON = at("2026-11-27T12:00:00")


def nothing(tenant: str, since: float) -> int:
    return 0


@pytest.mark.parametrize(
    ("now", "day", "month"),
    [
        ("2026-11-27T12:00:00", ("2026-11-27", "2026-11-28"), ("2026-11-01", "2026-12-01")),
        ("2026-11-27T00:00:00", ("2026-11-27", "2026-11-28"), ("2026-11-01", "2026-12-01")),
        ("2026-12-31T23:59:59", ("2026-12-31", "2027-01-01"), ("2026-12-01", "2027-01-01")),
        ("2028-02-29T23:59:59", ("2028-02-29", "2028-03-01"), ("2028-02-01", "2028-03-01")),
    ],
)
def test_periods_begin_and_end_at_midnight_utc(now: str, day: tuple[str, str], month: tuple[str, str]) -> None:
    assert Period.DAY.bounds(at(now)) == (at(day[0]), at(day[1]))
    assert Period.MONTH.bounds(at(now)) == (at(month[0]), at(month[1]))


@given(now=st.floats(0, 4e9))
def test_every_instant_lies_in_its_periods(now: float) -> None:
    for period, longest in ((Period.DAY, DAY), (Period.MONTH, 31 * DAY)):
        began, ends = period.bounds(now)
        assert began <= now < ends
        assert ends - began <= longest
        assert period.bounds(ends)[0] == ends


def test_the_ledger_is_asked_once_for_the_day_and_for_the_month() -> None:
    asked = []

    def spent_since(tenant: str, since: float) -> int:
        asked.append((tenant, since))
        return 5_000_000 if since == at("2026-11-27") else 9_000_000

    spending = EnergySpending("a", spent_since, NOON)
    spending.limit(TenantSettings(energy_joules_per_day=10.0, energy_joules_per_month=12.0))
    assert asked == [("a", at("2026-11-27")), ("a", at("2026-11-01"))]
    day, month = spending.budgets(NOON)
    assert (day.remaining_microjoules, month.remaining_microjoules) == (5_000_000, 3_000_000)
    assert spending.least_remaining(NOON) == (3_000_000, Period.MONTH)


def test_a_new_day_leaves_the_month_as_it_was() -> None:
    spending = EnergySpending("a", nothing, NOON)
    spending.limit(TenantSettings(energy_joules_per_day=1.0, energy_joules_per_month=10.0))
    spending.spend(1_500_000, NOON)
    assert spending.least_remaining(NOON) == (0, Period.DAY)
    assert spending.spent_budget(NOON).renews_unix_seconds == at("2026-11-28")
    day, month = spending.budgets(at("2026-11-28"))
    assert (day.spent_microjoules, month.spent_microjoules) == (0, 1_500_000)
    assert day.renews_unix_seconds == at("2026-11-29")
    assert [budget.spent_microjoules for budget in spending.budgets(at("2026-12-01"))] == [0, 0]


def test_of_two_budgets_that_are_spent_the_later_to_renew_is_named() -> None:
    spending = EnergySpending("a", nothing, NOON)
    spending.limit(TenantSettings(energy_joules_per_day=1.0, energy_joules_per_month=1.0))
    spending.spend(2_000_000, NOON)
    assert spending.least_remaining(NOON) == (0, Period.MONTH)
    assert spending.spent_budget(NOON).period is Period.MONTH


def test_a_clock_set_back_reopens_no_period() -> None:
    spending = EnergySpending("a", nothing, at("2026-11-28T00:00:01"))
    spending.spend(7, at("2026-11-28T00:00:01"))
    spending.spend(7, at("2026-11-27T23:59:59"))
    assert spending.spent_microjoules(Period.DAY, at("2026-11-27T23:59:59")) == 14
    assert spending.spent_microjoules(Period.DAY, at("2026-11-28T12:00:00")) == 14


def test_without_a_budget_joules_are_counted_all_the_same() -> None:
    spending = EnergySpending("a", nothing, NOON)
    spending.spend(3_000_000, NOON)
    assert spending.least_remaining(NOON) is None
    spending.limit(TenantSettings(energy_joules_per_day=10.0))
    assert spending.least_remaining(NOON) == (7_000_000, Period.DAY)


@given(
    spends=st.lists(st.tuples(st.integers(0, 10**9), st.floats(0, 2 * DAY)), max_size=40),
    spent_before=st.integers(0, 10**9),
)
def test_what_a_period_holds_is_the_sum_of_what_was_spent_in_it(
    spends: list[tuple[int, float]], spent_before: int
) -> None:
    spending = EnergySpending("a", lambda tenant, since: spent_before, NOON)
    now, told = NOON, [(NOON, spent_before)]
    for microjoules, gap in spends:
        now += gap
        spending.spend(microjoules, now)
        told.append((now, microjoules))
    for period in Period:
        began, _ = period.bounds(now)
        assert spending.spent_microjoules(period, now) == sum(amount for when, amount in told if when >= began)
