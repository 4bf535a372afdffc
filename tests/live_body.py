"""A body of `GET /v1/energy/live`, as a server with two workers would give it; each test changes what it is about."""

from typing import Any

NOW_UNIX_SECONDS = 1_700_000_000.0


def live_body(**changes: Any) -> dict[str, Any]:
    body = {
        "object": "energy.live",
        "at_unix_seconds": NOW_UNIX_SECONDS,
        "started_unix_seconds": NOW_UNIX_SECONDS - 3725,
        "version": "0.1.0",
        "policy": "energy",
        "targets": {"ttft_seconds": 1.0, "tpot_seconds": 0.05},
        "power_watts": {"gpu": 288.0, "cpu": 41.0},
        "accounts_joules": {"prefill": 500.0, "decode": 5400.0, "idle": 3000.0, "loading": 1000.0, "unattributed": 0.0},
        "in_flight_joules": 100.0,
        "measured": True,
        "sources": ["nvml", "rapl"],
        "reason": None,
        "requests": {"completed": 1204, "failed": 0, "refused": 3, "aborted": 2},
        "tokens": {"prompt": 40_213, "output": 131_072},
        "joules_per_output_token": {"last_minute": 0.0792, "since_start": 0.0834},
        "queue_requests": {"priority": 0, "default": 2, "flex": 7},
        "latency": {
            "ttft_p50_seconds": 0.12,
            "ttft_p99_seconds": 0.61,
            "tpot_p50_seconds": 0.021,
            "tpot_p99_seconds": 0.062,
            "slo_attainment_ratio": 0.97,
        },
        "workers": [live_worker("vllm-0"), unknown_worker("vllm-1")],
        "tenants": [
            {"tenant": "acme", "energy_joules": 300.0, "requests": 9, "output_tokens": 1000, "budgets": [_budget()]},
            {"tenant": "zoo", "energy_joules": 700.0, "requests": 4, "output_tokens": 5000, "budgets": []},
            {"tenant": "new", "energy_joules": None, "requests": 0, "output_tokens": 0, "budgets": []},
        ],
        "recent_requests": [live_request(number) for number in range(20)],
    }
    return body | changes


def live_worker(worker_id: str, **changes: Any) -> dict[str, Any]:
    worker = {
        "worker_id": worker_id,
        "model": "smollm2",
        "state": "ready",
        "running_requests": 12,
        "waiting_requests": 0,
        "power_watts": {"gpu": 288.0, "cpu": 41.0},
        "measured": True,
        "source": "nvml+rapl",
        "reason": None,
        "energy_joules": 18_000.0,
        "output_tokens_per_second": 3290.0,
    }
    return worker | changes


def unknown_worker(worker_id: str) -> dict[str, Any]:
    return live_worker(
        worker_id,
        state="parked",
        running_requests=0,
        power_watts={},
        measured=False,
        source=None,
        reason="the worker has not reported yet",
        energy_joules=None,
        output_tokens_per_second=None,
    )


def live_request(number: int, **changes: Any) -> dict[str, Any]:
    """The higher the number, the longer ago; of every other tier, and each costs a joule more."""
    request = {
        "request_id": f"req-{number:02d}",
        "ended_unix_seconds": NOW_UNIX_SECONDS - 2 * number - 1,
        "tenant": "acme",
        "model": "smollm2",
        "tier": "flex" if number % 2 else "default",
        "outcome": "completed",
        "prompt_tokens": 31,
        "output_tokens": 100,
        "energy_joules": 8.0 + number,
        "measured": True,
        "reason": None,
        "duration_seconds": 1.31,
    }
    return request | changes


def _budget() -> dict[str, Any]:
    return {"period": "day", "budget_joules": 1000.0, "remaining_joules": 50.0}
