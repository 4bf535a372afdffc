"""What a run might have seen, for tests of what is made of it."""

from bench.energy.cpu_time import CpuSeconds
from bench.energy.figures import RunFigures, figures_of
from bench.energy.measurement import Measurement
from bench.energy.open_load import Answer
from bench.energy.scrape import Scrape
from scheduler.targets import LatencyTargets

TARGETS = LatencyTargets(ttft_seconds=1.0, tpot_seconds=0.1)


def answer(first_token_seconds: float = 0.5, seconds_per_token: float = 0.05, output_tokens: int = 11) -> Answer:
    """Two joules for each."""
    last_token_seconds = first_token_seconds + seconds_per_token * (output_tokens - 1)
    return Answer(0.001, last_token_seconds, None, first_token_seconds, last_token_seconds, output_tokens, 2.0)


FAILED = Answer(late_seconds=0.002, total_seconds=3.0, error="status 503: no worker")


def measurement(answers: tuple[Answer, ...], engine_seconds: float = 10.0, decode_joules: float = 30.0) -> Measurement:
    """A window of ten seconds in which decoding took some joules and idling two."""
    return Measurement(
        answers=answers,
        window_seconds=10.0,
        cpu_seconds=CpuSeconds(engines=engine_seconds, front_end=0.5, machine=engine_seconds + 3.5),
        idle_cores=0.05,
        first=Scrape({"decode": 1.0, "idle": 4.0, "loading": 100.0}, 0.0, {}, {("a", "opens"): 2}, {}),
        last=Scrape(
            {"decode": 1.0 + decode_joules, "idle": 6.0, "loading": 100.0},
            0.5,
            {},
            {("a", "opens"): 3, ("a", "fills"): 4, ("b", "spills"): 1},
            {("b", "park"): 1},
        ),
        samples=(Scrape(running_requests={"a": 1.0, "b": 0.0}), Scrape(running_requests={"a": 4.0})),
    )


def figures(
    policy: str = "energy", round_number: int = 1, engine_seconds: float = 10.0, decode_joules: float = 30.0
) -> RunFigures:
    """The figures of a run of ten answers of 11 tokens each."""
    seen = measurement((answer(),) * 10, engine_seconds, decode_joules)
    return figures_of(policy, round_number, seen, TARGETS)
