import json

import pytest

from bench.fuzz.attacks import KINDS, make_attack
from bench.fuzz.verdict import fault_of_answer

ERROR = {"message": "no", "type": "invalid_request_error", "param": None, "code": "invalid_json"}


def body(**changes: object) -> bytes:
    return json.dumps({"error": ERROR | changes}).encode()


def test_answers_and_errors_in_shape_are_no_faults() -> None:
    assert fault_of_answer(200, "text/plain", b"anything") is None
    assert fault_of_answer(400, "application/json", body()) is None
    assert fault_of_answer(405, "application/json", b"", has_body=False) is None


@pytest.mark.parametrize(
    ("status", "kind", "content"),
    [
        (500, "application/json", body()),
        (503, "application/json", body()),
        (400, "text/plain", body()),
        (400, "application/json", b"{"),
        (400, "application/json", b"[]"),
        (400, "application/json", json.dumps({"error": ERROR, "detail": 1}).encode()),
        (400, "application/json", json.dumps({"error": {"message": "no"}}).encode()),
        (400, "application/json", body(code=400)),
        (400, "application/json", body(param=1)),
    ],
)
def test_failures_and_other_shapes_are_faults(status: int, kind: str, content: bytes) -> None:
    assert fault_of_answer(status, kind, content) is not None


def test_the_same_seed_makes_the_same_attack() -> None:
    attacks = [make_attack(f"7.{number}") for number in range(300)]
    assert attacks == [make_attack(f"7.{number}") for number in range(300)]
    assert {attack.kind for attack in attacks} == set(KINDS)
    assert all(attack.packets for attack in attacks)


def test_attacks_carry_the_headers_of_a_caller() -> None:
    attacks = [make_attack(f"7.{number}", ("Authorization: Bearer x",)) for number in range(300)]
    assert all(b"Bearer x" in b"".join(attack.packets) for attack in attacks if attack.kind == "left_early")
