"""What holds for every tenant, whatever requests come, end and are told late: on a clock turned by hand."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from server.access.admission import Admission
from server.access.energy_budget import Period
from server.access.tenants import TenantSettings
from server.api_error import ApiError
from tests.hand_turned_gate import HandTurnedGate

MICROJOULES = st.integers(0, 4_000_000)
TENANTS = st.sampled_from(["team-a", "team-b"])
DAY_LIMIT, MONTH_LIMIT = 10_000_000, 25_000_000
CONCURRENT, REQUESTS, TOKENS = 3, 6, 100


def limits() -> TenantSettings:
    return TenantSettings(
        concurrent_requests=CONCURRENT,
        requests_per_minute=REQUESTS,
        tokens_per_minute=TOKENS,
        energy_joules_per_day=DAY_LIMIT / 1e6,
        energy_joules_per_month=MONTH_LIMIT / 1e6,
    )


class AccessLaws(RuleBasedStateMachine):
    """Keeps its own books beside the gate's."""

    running = Bundle("running")
    ended = Bundle("ended")

    def __init__(self) -> None:
        super().__init__()
        self.turned = HandTurnedGate({"others": limits()})
        self.in_flight: dict[str, list[Admission]] = {"team-a": [], "team-b": []}
        self.spent: list[tuple[str, float, int]] = []

    @rule(target=running, tenant=TENANTS, tokens=st.integers(0, 60))
    def ask(self, tenant: str, tokens: int) -> tuple[str, Admission] | None:
        spent = {period: self.spent_in(tenant, period) for period in Period}
        left = min(DAY_LIMIT - spent[Period.DAY], MONTH_LIMIT - spent[Period.MONTH])
        try:
            admission = self.turned.admit(tenant, tokens=tokens)
        except ApiError as error:
            refusal = error
        else:
            assert left > 0
            assert len(self.in_flight[tenant]) < CONCURRENT
            assert admission.remaining_energy_joules == left / 1e6
            self.in_flight[tenant].append(admission)
            return tenant, admission
        assert refusal.status == 429
        assert int(refusal.headers["Retry-After"]) >= 1
        assert (refusal.code == "energy_budget_exceeded") == (left <= 0)
        return None

    @rule(
        target=ended,
        request=consumes(running),
        microjoules=st.none() | MICROJOULES,
        tokens=st.none() | st.integers(0, 200),
    )
    def end(
        self, request: tuple[str, Admission] | None, microjoules: int | None, tokens: int | None
    ) -> tuple[str, Admission] | None:
        if request is None:
            return None
        tenant, admission = request
        admission.settle(microjoules, tokens)
        self.in_flight[tenant].remove(admission)
        self.book(tenant, microjoules or 0)
        return request

    @rule(request=ended)
    def end_again(self, request: tuple[str, Admission] | None) -> None:
        if request is not None:
            request[1].settle(5_000_000, 100)

    @rule(request=consumes(ended), microjoules=MICROJOULES)
    def tell_late(self, request: tuple[str, Admission] | None, microjoules: int) -> None:
        if request is not None:
            request[1].charge(microjoules)
            self.book(request[0], microjoules)

    @rule(seconds=st.one_of(st.floats(0, 70), st.sampled_from([3600.0, 12 * 3600.0, 86_400.0])))
    def pass_time(self, seconds: float) -> None:
        self.turned.pass_seconds(seconds)

    @rule()
    def reload(self) -> None:
        self.turned.gate.replace_tenants({"others": limits()})

    @invariant()
    def places_are_those_of_the_running(self) -> None:
        for usage in self.turned.gate.usage():
            if usage.tenant in self.in_flight:
                assert usage.running == len(self.in_flight[usage.tenant]) <= CONCURRENT

    @invariant()
    def budgets_hold_every_microjoule_of_their_period_once(self) -> None:
        for usage in self.turned.gate.usage():
            for budget in usage.budgets:
                if usage.tenant in self.in_flight:
                    assert budget.spent_microjoules == self.spent_in(usage.tenant, budget.period)

    def book(self, tenant: str, microjoules: int) -> None:
        self.spent.append((tenant, self.turned.now_unix_seconds(), microjoules))

    def spent_in(self, tenant: str, period: Period) -> int:
        began, _ = period.bounds(self.turned.now_unix_seconds())
        return sum(amount for whose, when, amount in self.spent if whose == tenant and when >= began)


TestAccessLaws = AccessLaws.TestCase
TestAccessLaws.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(
    costs=st.lists(MICROJOULES, min_size=1, max_size=60),
    turns=st.lists(st.integers(0, CONCURRENT - 1), max_size=200),
)
def test_a_budget_is_overspent_by_no_more_than_what_was_in_flight_when_it_ended(
    costs: list[int], turns: list[int]
) -> None:
    turned = HandTurnedGate({"others": TenantSettings(energy_joules_per_day=DAY_LIMIT / 1e6)})
    waiting, in_flight = list(costs), list[tuple[Admission, int]]()
    spent, allowed = 0, DAY_LIMIT
    for turn in turns:
        if waiting and len(in_flight) < CONCURRENT:
            try:
                in_flight.append((turned.admit("team-a"), waiting.pop()))
            except ApiError:
                break
        if turn < len(in_flight):
            admission, cost = in_flight.pop(turn)
            if spent < DAY_LIMIT <= spent + cost:
                allowed = DAY_LIMIT + cost + sum(other for _, other in in_flight)
            admission.settle(cost, 1)
            spent += cost
    for admission, cost in in_flight:
        admission.settle(cost, 1)
        spent += cost
    assert spent <= max(allowed, DAY_LIMIT + sum(cost for _, cost in in_flight))
