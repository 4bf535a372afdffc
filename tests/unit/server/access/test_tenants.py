import tomllib
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from server.access.tenants import Tenant, Tenants, TenantSettings, check_tenant_name
from server.errors import SettingError


class File(BaseModel):
    tenants: Tenants = {}


def read(text: str) -> dict[str, TenantSettings]:
    return File.model_validate(tomllib.loads(text)).tenants


def problem(text: str) -> tuple[str, str]:
    with pytest.raises(ValidationError) as error:
        read(text)
    (problem,) = error.value.errors(include_url=False)
    return ".".join(map(str, problem["loc"])), problem["msg"]


def test_every_limit_can_be_written_in_the_file() -> None:
    tenants = read(
        """
        [tenants.team-a]
        requests_per_minute = 60
        tokens_per_minute = 100_000
        concurrent_requests = 8
        models = ["small", "large"]
        default_tier = "flex"
        max_tier = "default"
        energy_joules_per_day = 50_000
        energy_joules_per_month = 1e6
        is_admin = true
        [tenants.others]
        requests_per_minute = 1
        """
    )
    assert tenants["team-a"] == TenantSettings(
        requests_per_minute=60,
        tokens_per_minute=100_000,
        concurrent_requests=8,
        models=("small", "large"),
        default_tier="flex",
        max_tier="default",
        energy_joules_per_day=50_000.0,
        energy_joules_per_month=1e6,
        is_admin=True,
    )
    assert tenants["others"] == TenantSettings(requests_per_minute=1)


@pytest.mark.parametrize(
    ("line", "key", "expected"),
    [
        ("requests_per_minute = 0", "requests_per_minute", "greater than or equal to 1"),
        ("requests_per_minute = 1.5", "requests_per_minute", "valid integer"),
        ("requests_per_minute = true", "requests_per_minute", "valid integer"),
        ("tokens_per_minute = '5'", "tokens_per_minute", "valid integer"),
        ("concurrent_requests = -1", "concurrent_requests", "greater than or equal to 1"),
        ("models = []", "models", "at least 1 item"),
        ("models = 'm'", "models", "valid tuple"),
        ("default_tier = 'fast'", "default_tier", "'priority', 'default' or 'flex'"),
        ("energy_joules_per_day = 0", "energy_joules_per_day", "greater than 0"),
        ("energy_joules_per_month = inf", "energy_joules_per_month", "finite number"),
        ("energy_joules_per_month = nan", "energy_joules_per_month", "finite number"),
        ("is_admin = 'yes'", "is_admin", "valid boolean"),
        ("request_per_minute = 5", "request_per_minute", "Extra inputs"),
    ],
)
def test_a_refusal_names_the_key_and_what_was_expected(line: str, key: str, expected: str) -> None:
    where, message = problem(f"[tenants.team-a]\n{line}")
    assert where == f"tenants.team-a.{key}"
    assert expected in message


def test_a_default_tier_above_the_highest_allowed_is_refused() -> None:
    where, message = problem("[tenants.a]\ndefault_tier = 'default'\nmax_tier = 'flex'")
    assert where == "tenants.a"
    assert "expected none above max_tier, 'flex'" in message


def test_not_everybody_can_be_an_administrator() -> None:
    where, message = problem("[tenants.others]\nis_admin = true")
    assert where == "tenants"
    assert "others.is_admin = true: expected false" in message


@pytest.mark.parametrize("name", ["", "a b", "-a", "ä", "a" * 65, "a/b", "a\n"])
def test_what_is_no_name_is_refused_in_the_file_and_on_the_command_line(name: str) -> None:
    with pytest.raises(ValidationError):
        File.model_validate({"tenants": {name: {}}})
    with pytest.raises(SettingError) as refusal:
        check_tenant_name(name)
    assert str(refusal.value).startswith(f"tenant = {name!r}: expected ")


@pytest.mark.parametrize("name", ["a", "team-a", "A.b_c-9", "0", "a" * 64])
def test_a_name_is_a_name(name: str) -> None:
    assert check_tenant_name(name) == name
    assert File.model_validate({"tenants": {name: {}}}).tenants == {name: TenantSettings()}


@pytest.mark.parametrize(
    ("settings", "asked", "given"),
    [
        ({}, None, "default"),
        ({}, "priority", "priority"),
        ({"default_tier": "flex"}, None, "flex"),
        ({"default_tier": "flex"}, "default", "default"),
        ({"max_tier": "default"}, "priority", "default"),
        ({"max_tier": "flex", "default_tier": "flex"}, "priority", "flex"),
        ({"max_tier": "default"}, "flex", "flex"),
    ],
)
def test_the_tier_is_the_one_asked_for_or_the_tenants_own_and_never_above_the_highest(
    settings: dict[str, Any], asked: str | None, given: str
) -> None:
    assert Tenant("a", TenantSettings(**settings)).tier(asked) == given


def test_models_are_open_unless_some_are_named() -> None:
    assert Tenant("a").may_use("any")
    tenant = Tenant("a", TenantSettings(models=("small",)))
    assert tenant.may_use("small")
    assert not tenant.may_use("large")
