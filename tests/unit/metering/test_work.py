"""What an engine has done: totals of its steps, whatever is known of its energy."""

from hypothesis import given
from hypothesis import strategies as st

from metering.step import EngineStep
from metering.work import EngineWork


def step(
    *,
    seconds: float | None = 0.5,
    prefill_tokens: int = 0,
    sequences: int = 0,
    gap_seconds: float | None = None,
    accepted_tokens: int | None = None,
) -> EngineStep:
    return EngineStep(
        ended_at_seconds=0.0,
        duration_seconds=seconds,
        prefill_tokens=prefill_tokens,
        decode_sequences=sequences,
        first_tokens=0,
        first_token_prompt_tokens=0,
        inter_token_seconds=gap_seconds,
        unfinished_sequences=0,
        decode_tokens=accepted_tokens,
    )


def test_an_engine_that_has_done_nothing_says_zero_and_knows_nothing_of_its_cache() -> None:
    assert EngineWork().report() == {
        "steps_total": 0,
        "step_seconds_total": 0.0,
        "decode_tokens_total": 0,
        "prefill_tokens_total": 0,
        "loading_seconds": None,
        "kv_cache_usage_ratio": None,
    }


def test_each_decoding_sequence_counts_one_token_a_step_however_many_drafts_were_accepted() -> None:
    work = EngineWork()
    work.step(step(prefill_tokens=100))
    work.step(step(prefill_tokens=20, sequences=3, accepted_tokens=9))
    report = work.report()
    assert (report["steps_total"], report["step_seconds_total"]) == (2, 1.0)
    assert (report["decode_tokens_total"], report["prefill_tokens_total"]) == (3, 120)


def test_a_step_without_a_measure_takes_the_gap_between_tokens_and_without_that_is_left_out() -> None:
    work = EngineWork()
    work.step(step(seconds=None, gap_seconds=0.25, sequences=2))
    work.step(step(seconds=None, prefill_tokens=50))
    report = work.report()
    assert (report["steps_total"], report["step_seconds_total"]) == (1, 0.25)
    assert (report["decode_tokens_total"], report["prefill_tokens_total"]) == (2, 0)


def test_a_step_is_as_long_as_the_gap_between_tokens_where_the_engine_had_scheduled_ahead() -> None:
    """Real vLLM on a GPU, 128 sequences: it waited 2.3 ms for steps that came 9.2 ms apart."""
    work = EngineWork()
    work.step(step(seconds=0.2, prefill_tokens=8192))
    for _ in range(10):
        work.step(step(seconds=0.0023, gap_seconds=0.0092, sequences=128))
    assert work.report()["step_seconds_total"] == 0.292


def test_the_caches_of_data_parallel_engines_are_one_share() -> None:
    work = EngineWork()
    work.kv_cache_usage(0, 0.2)
    work.kv_cache_usage(1, 0.6)
    work.kv_cache_usage(0, 0.4)
    assert work.report()["kv_cache_usage_ratio"] == 0.5


STEPS = st.builds(
    step,
    seconds=st.none() | st.floats(0, 10),
    prefill_tokens=st.integers(0, 1000),
    sequences=st.integers(0, 100),
    gap_seconds=st.none() | st.floats(0, 10),
)


@given(steps=st.lists(STEPS))
def test_totals_never_fall(steps: list[EngineStep]) -> None:
    work = EngineWork()
    reports = [work.report()]
    for one in steps:
        work.step(one)
        reports.append(work.report())
    for name in ("steps_total", "step_seconds_total", "decode_tokens_total", "prefill_tokens_total"):
        told = [report[name] for report in reports]
        assert told == sorted(told)
