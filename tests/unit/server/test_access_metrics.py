"""Who has series of their own among more tenants than there is room for."""

import pytest
from prometheus_client import CollectorRegistry

from server.access.tenants import TenantSettings
from server.access_metrics import GateCollector
from server.api_error import ApiError
from server.tenant_labels import TenantLabels
from tests.hand_turned_gate import HandTurnedGate

LOCKED = TenantSettings(models=("another",))


def shown(gate: HandTurnedGate, most: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(GateCollector(gate.gate, TenantLabels(most)))
    return registry


def refusals(registry: CollectorRegistry, tenant: str) -> float | None:
    return registry.get_sample_value(
        "wattline_tenant_refusals_total", {"tenant": tenant, "reason": "model_not_allowed"}
    )


def test_tenants_that_ask_for_nothing_take_no_place_from_those_that_do() -> None:
    names = [f"t{number}" for number in range(5)]
    gate = HandTurnedGate(dict.fromkeys(names, LOCKED))
    for name in names:
        gate.make_key(name)
    registry = shown(gate, most=2)
    assert refusals(registry, "other") == 0
    for name in ("t4", "t3", "t2"):
        with pytest.raises(ApiError):
            gate.admit(tenant=name)
        refusals(registry, name)  # as a scrape would
    assert (refusals(registry, "t4"), refusals(registry, "t3")) == (1, 1)
    assert (refusals(registry, "t2"), refusals(registry, "other")) == (None, 1)


def test_where_there_is_room_all_are_shown() -> None:
    gate = HandTurnedGate({"idle": LOCKED})
    gate.make_key("idle")
    registry = shown(gate, most=2)
    assert refusals(registry, "idle") == 0
