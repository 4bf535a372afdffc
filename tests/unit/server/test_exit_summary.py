"""The last line: what is known is added up, what is not is said to be unknown."""

from server.exit_summary import Served, WorkerBill, summary_line

SERVED = Served(requests=12, prompt_tokens=480, output_tokens=1000)
ACCOUNTS = {"prefill": 40_000_000, "decode": 60_000_000, "idle": 300_000_000}


def bill(worker_id: str, source: str | None = "rapl", *, measured: bool = True) -> WorkerBill:
    return WorkerBill(worker_id, source, measured, "no counter", {} if source is None else ACCOUNTS)


def test_everything_is_measured() -> None:
    assert summary_line(SERVED, [bill("vllm-0")], 63.4) == (
        "stopped after 63 s: 12 requests, 1000 output tokens, 480 prompt tokens, "
        "energy 400 J (measured: rapl): requests 100 J, 0.100 J per output token, idle 75 %"
    )


def test_an_estimate_is_called_so() -> None:
    assert "energy 400 J (not measured: estimate)" in summary_line(SERVED, [bill("a", "estimate", measured=False)], 1)
    mixed = summary_line(SERVED, [bill("a"), bill("b", "estimate", measured=False)], 1)
    assert "energy 800 J (partly measured: estimate+rapl)" in mixed


def test_tokens_of_a_worker_without_energy_make_no_other_look_cheap() -> None:
    said = summary_line(SERVED, [bill("a"), bill("b", None)], 1)
    assert "requests 100 J, ? per output token" in said
    assert said.endswith("; not known of b: no counter")


def test_nothing_is_known() -> None:
    assert summary_line(SERVED, [bill("a", None)], 1).endswith("energy ? (a: no counter)")
    assert summary_line(SERVED, [], 1).endswith("energy ? (there was no worker)")


def test_where_nothing_was_asked_there_is_nothing_for_each_token() -> None:
    said = summary_line(Served(0, 0, 0), [bill("a")], 1)
    assert said.endswith("requests 100 J, idle 75 %")


def test_a_worker_that_spent_nothing_yet_has_no_idle_share() -> None:
    assert summary_line(
        SERVED, [WorkerBill("a", "rapl", measured=True, reason=None, accounts_microjoules={})], 1
    ).endswith("idle ?")
