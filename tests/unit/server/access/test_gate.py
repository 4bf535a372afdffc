import json
from dataclasses import replace
from typing import Any

import pytest

from server.access.gate import TenantUsage
from server.access.key import mint
from server.access.tenant_account import Refusal
from server.access.tenants import TenantSettings
from server.api_error import ApiError
from tests.hand_turned_gate import NOON_UNIX_SECONDS, HandTurnedGate


def gate_for(tenant: str = "anonymous", **settings: Any) -> HandTurnedGate:
    return HandTurnedGate({tenant: TenantSettings(**settings)})


def refusal(gate: HandTurnedGate, **request: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        gate.admit(**request)
    return error.value


def usage(gate: HandTurnedGate, tenant: str = "anonymous") -> TenantUsage:
    (found,) = (usage for usage in gate.gate.usage() if usage.tenant == tenant)
    return found


class TestIdentify:
    def test_without_keys_everybody_is_anonymous_and_an_administrator(self) -> None:
        gate = gate_for(requests_per_minute=5).gate
        caller = gate.identify([(b"authorization", b"Bearer whatever")])
        assert (caller.tenant.name, caller.key_id, caller.is_admin) == ("anonymous", None, True)
        assert caller.tenant.settings.requests_per_minute == 5
        assert not gate.has_keys

    def test_a_key_names_its_tenant(self) -> None:
        turned = gate_for("team-a", models=("small",))
        headers = turned.make_key("team-a")
        caller = turned.gate.identify(headers)
        assert caller.tenant.name == "team-a"
        assert caller.tenant.settings.models == ("small",)
        assert caller.key_id is not None
        assert caller.key_id.encode() in headers[0][1]
        assert turned.gate.has_keys

    @pytest.mark.parametrize(
        "headers",
        [[], [(b"authorization", b"Bearer nonsense")], [(b"x-api-key", b"sk-wattline-0-0")], [(b"authorization", b"")]],
    )
    def test_with_keys_all_others_get_one_answer(self, headers: list[tuple[bytes, bytes]]) -> None:
        turned = gate_for()
        turned.make_key("team-a")
        with pytest.raises(ApiError) as error:
            turned.gate.identify(headers)
        assert error.value.status == 401
        assert json.loads(error.value.body())["error"] == {
            "message": "a valid API key is needed: send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`",
            "type": "authentication_error",
            "param": None,
            "code": "invalid_api_key",
        }
        assert error.value.headers == {"www-authenticate": "Bearer"}
        assert turned.gate.invalid_keys == 1

    def test_a_key_that_ends_while_the_server_runs_is_refused_from_then_on(self) -> None:
        turned = gate_for()
        key, token = mint("team-a", "n", NOON_UNIX_SECONDS, expires_unix_seconds=NOON_UNIX_SECONDS + 60)
        headers = [(b"x-api-key", token.encode())]
        turned.gate.replace_keys([key])
        assert turned.gate.identify(headers).key_id == key.key_id
        turned.pass_seconds(60)
        with pytest.raises(ApiError):
            turned.gate.identify(headers)
        turned.gate.replace_keys([replace(key, expires_unix_seconds=None)])
        assert turned.gate.identify(headers).key_id == key.key_id
        turned.gate.replace_keys([])
        with pytest.raises(ApiError):
            turned.gate.identify(headers)

    def test_what_tenants_of_new_keys_have_spent_is_read_before_the_keys_are_accepted(self) -> None:
        asked = []

        def spent_since(tenant: str, since: float) -> int:
            if tenant == "team-b":
                raise OSError("the database is down")
            asked.append(tenant)
            return 0

        turned = HandTurnedGate({}, spent_since)
        turned.make_key("team-a")
        assert asked == ["anonymous"] * 2 + ["team-a"] * 2
        headers = turned.make_key("team-a")
        with pytest.raises(OSError, match="down"):
            turned.make_key("team-b")
        turned.gate.identify(headers)
        turned.admit("team-a")
        assert asked == ["anonymous"] * 2 + ["team-a"] * 2

    def test_only_administrators_see_what_is_not_theirs(self) -> None:
        turned = gate_for("ops", is_admin=True)
        admin = turned.gate.identify(turned.make_key("ops"))
        other = turned.gate.identify(turned.make_key("team-a"))
        admin.require_admin()
        with pytest.raises(ApiError) as error:
            other.require_admin()
        assert (error.value.status, error.value.code) == (403, "admin_required")
        assert admin.may_see("team-a")
        assert other.may_see("team-a")
        assert not other.may_see("ops")


class TestModelsAndTiers:
    def test_a_model_that_is_not_the_tenants_is_refused_whether_it_exists_or_not(self) -> None:
        gate = gate_for(models=("small",))
        gate.admit(model="small")
        error = refusal(gate, model="large")
        assert (error.status, error.code, error.param) == (403, "model_not_allowed", "model")
        assert "'large'" in error.message
        assert len(refusal(gate, model="x" * 10_000).message) < 200
        assert usage(gate).refusals == {Refusal.MODEL: 2}
        assert usage(gate).running == 1

    @pytest.mark.parametrize(
        ("name", "tier"),
        [
            (None, "flex"),
            ("auto", "flex"),
            ("default", "default"),
            ("standard_only", "default"),
            ("flex", "flex"),
            ("priority", "default"),
            ("scale", "default"),
        ],
    )
    def test_the_tenants_own_tier_is_for_whoever_leaves_the_choice(self, name: str | None, tier: str) -> None:
        assert gate_for(default_tier="flex", max_tier="default").admit(tier_name=name).tier == tier


class TestLimits:
    def test_a_tenant_without_limits_is_told_of_none(self) -> None:
        admission = HandTurnedGate().admit()
        assert admission.headers() == []
        assert admission.remaining_energy_joules is None

    def test_requests_per_minute(self) -> None:
        gate = gate_for(requests_per_minute=2)
        first = gate.admit()
        assert first.headers() == [
            (b"x-ratelimit-limit-requests", b"2"),
            (b"x-ratelimit-remaining-requests", b"1"),
            (b"x-ratelimit-reset-requests", b"120.0s"),
        ]
        gate.admit().settle(0, 0)
        error = refusal(gate)
        assert (error.status, error.code) == (429, "rate_limit_exceeded")
        assert "2 requests per minute" in error.message
        assert error.headers["x-ratelimit-remaining-requests"] == "0"
        assert "x-should-retry" not in error.headers
        gate.pass_seconds(float(error.headers["Retry-After"]))
        gate.admit()
        assert usage(gate).refusals == {Refusal.REQUESTS: 1}

    def test_tokens_per_minute_are_taken_as_estimated_and_booked_as_used(self) -> None:
        gate = gate_for(tokens_per_minute=100)
        admission = gate.admit(tokens=30)
        assert (b"x-ratelimit-remaining-tokens", b"70") in admission.headers()
        admission.settle(0, 90)
        assert (b"x-ratelimit-remaining-tokens", b"10") in admission.headers()
        error = refusal(gate, tokens=30)
        assert (error.status, error.code) == (429, "rate_limit_exceeded")
        assert int(error.headers["Retry-After"]) >= 1
        gate.pass_seconds(float(error.headers["Retry-After"]))
        gate.admit(tokens=30)

    def test_tokens_nobody_counted_stay_as_estimated_and_a_request_that_never_ran_took_none(self) -> None:
        gate = gate_for(tokens_per_minute=100)
        gate.admit(tokens=30).settle(None, None)
        gate.admit(tokens=30).settle(0, 0)
        assert (b"x-ratelimit-remaining-tokens", b"60") in gate.admit(tokens=10).headers()

    def test_a_request_of_more_tokens_than_a_minute_has_is_not_to_be_tried_again(self) -> None:
        gate = gate_for(tokens_per_minute=100, requests_per_minute=5)
        error = refusal(gate, tokens=101)
        assert (error.status, error.code) == (429, "rate_limit_exceeded")
        assert error.headers["x-should-retry"] == "false"
        assert "101 tokens" in error.message
        assert error.headers["x-ratelimit-remaining-requests"] == "5"  # what is refused counts for nothing

    def test_concurrent_requests(self) -> None:
        gate = gate_for(concurrent_requests=2)
        first, _second = gate.admit(), gate.admit()
        error = refusal(gate)
        assert (error.status, error.code, error.headers["Retry-After"]) == (429, "rate_limit_exceeded", "1")
        first.settle(0, 0)
        first.settle(0, 0)  # the second time changes nothing
        gate.admit()
        refusal(gate)

    def test_an_unknown_length_counts_as_a_token(self) -> None:
        gate = gate_for(tokens_per_minute=1)
        gate.admit(tokens=0)
        refusal(gate, tokens=0)

    def test_tenants_without_a_section_share_its_numbers_and_not_its_counts(self) -> None:
        gate = HandTurnedGate(
            {"others": TenantSettings(requests_per_minute=1), "team-a": TenantSettings(requests_per_minute=2)}
        )
        for tenant in ("team-a", "team-a", "team-b", "team-c"):
            gate.admit(tenant)
        for tenant in ("team-a", "team-b", "team-c"):
            refusal(gate, tenant=tenant)

    def test_limits_are_replaced_while_requests_run_and_counts_stay(self) -> None:
        gate = gate_for(requests_per_minute=2, tokens_per_minute=100, concurrent_requests=2)
        running = [gate.admit(), gate.admit()]
        gate.gate.replace_tenants({"anonymous": TenantSettings(requests_per_minute=3, concurrent_requests=3)})
        running.append(gate.admit(tokens=10**6))
        assert "3 requests" not in refusal(gate).message  # three run at once already
        for admission in running:
            admission.settle(1_000_000, 50)
        assert "3 requests" in refusal(gate).message
        gate.gate.replace_tenants({"anonymous": TenantSettings(energy_joules_per_day=3.0)})
        assert refusal(gate).code == "energy_budget_exceeded"
        gate.gate.replace_tenants({})
        gate.admit()


class TestEnergy:
    def test_a_budget_is_told_and_refuses_once_it_is_spent(self) -> None:
        gate = gate_for(energy_joules_per_day=50.0)
        admission, late = gate.admit(), gate.admit()
        assert admission.remaining_energy_joules == 50.0
        admission.settle(49_999_999, 10)
        assert admission.headers() == [
            (b"x-wattline-energy-budget-remaining-joules", b"0.000001"),
            (b"x-wattline-energy-budget-period", b"day"),
        ]
        gate.admit().settle(2_000_000, 10)
        error = refusal(gate)
        assert (error.status, error.code) == (429, "energy_budget_exceeded")
        assert error.message == (
            "this tenant's energy budget of 50 J per day is spent (52.000 J); it renews at 2026-11-28T00:00:00Z"
        )
        assert error.headers == {
            "x-wattline-energy-budget-remaining-joules": "0.000000",
            "x-wattline-energy-budget-period": "day",
            "Retry-After": str(12 * 3600),
            "x-should-retry": "false",
        }
        late.settle(1_000_000, 10)  # what was in flight runs to its end, and is booked
        assert "(53.000 J)" in refusal(gate).message
        gate.pass_seconds(12 * 3600)
        assert gate.admit().remaining_energy_joules == 50.0

    def test_a_budget_goes_on_from_what_the_ledger_knows(self) -> None:
        tenants = {"anonymous": TenantSettings(energy_joules_per_month=10.0)}
        assert HandTurnedGate(tenants, lambda *_: 9_000_000).admit().remaining_energy_joules == 1.0
        assert refusal(HandTurnedGate(tenants, lambda *_: 10_000_000)).code == "energy_budget_exceeded"

    def test_unknown_energy_counts_as_nothing_and_is_seen_until_it_is_told(self) -> None:
        gate = gate_for(energy_joules_per_day=50.0)
        aborted, other = gate.admit(), gate.admit()
        aborted.settle(None, 5)
        other.settle(None, 5)
        assert gate.used() == (0, 2)
        aborted.charge(50_000_000)
        assert gate.used() == (0, 1)
        aborted.charge(1)
        assert gate.used() == (0, 1)
        assert refusal(gate).code == "energy_budget_exceeded"
        (budget,) = usage(gate).budgets
        assert budget.spent_microjoules == 50_000_001
        assert usage(gate).refusals == {Refusal.ENERGY: 1}

    def test_limits_and_budgets_are_told_together(self) -> None:
        gate = gate_for(requests_per_minute=1, tokens_per_minute=9, energy_joules_per_month=1.0)
        told = dict(gate.admit(tokens=9).headers())
        assert len(told) == 8
        assert told[b"x-wattline-energy-budget-period"] == b"month"
        assert {name.decode(): value.decode() for name, value in told.items()}.items() <= {
            **refusal(gate).headers
        }.items()
