"""Several engines in one server, over boards of their own and a package they share: nothing is lost or paid twice."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from metering.counter import CounterInfo, EnergyReading
from metering.meter import EnergyMeter
from metering.step import EndedSequence, EngineStep
from metering.track import CounterTrack

STEPS = st.lists(
    st.tuples(
        st.integers(0, 1),  # which engine
        st.floats(0.002, 0.3),  # after how long
        st.floats(0.001, 0.3),  # how long the step took
        st.integers(0, 2),  # prompts it completed
        st.integers(0, 2),  # sequences that ended
    ),
    max_size=60,
)


@dataclass
class Engine:
    """The sequences running in one of the engines, oldest first: since when, and how many tokens they have."""

    number: int
    running: list[tuple[str, float, int]] = field(default_factory=list)


class Server:
    """Two engines, a board for each (100 W and 300 W while time passes), a package of 50 W for both."""

    WATTS = (100, 300, 50)

    def __init__(self) -> None:
        self.now_seconds = 0.0
        self.tracks = [self._track(f"gpu:{n}", "gpu") for n in range(2)] + [self._track("package", "cpu")]
        self._sample()
        self.meter = EnergyMeter(self.tracks, 2, [(0,), (1,), (0, 1)])
        self.meter.engine_ready(0.0)
        self.engines = [Engine(0), Engine(1)]
        self.made = 0

    def arrive(self, name: str) -> str:
        self.meter.request_started(name, self.now_seconds)
        return name

    def wait(self, seconds: float) -> None:
        self.now_seconds += seconds
        self._sample()

    def step(
        self, engine: Engine, duration_seconds: float, prompts: int, ending: int, waiting: Sequence[str] = ()
    ) -> None:
        """One step, which completes so many prompts (of requests that are waiting, or come just then)."""
        if not prompts and not engine.running:
            return
        decoding = len(engine.running)
        started = list(waiting[:prompts]) or [self.arrive(f"late-{self.made + n}") for n in range(prompts)]
        self.made += prompts
        ended, kept = engine.running[:ending], engine.running[ending:]
        engine.running = [*kept, *((name, self.now_seconds, 1) for name in started)]
        self.meter.step(
            EngineStep(
                ended_at_seconds=self.now_seconds,
                duration_seconds=duration_seconds,
                prefill_tokens=10 * prompts,
                decode_sequences=decoding,
                first_tokens=prompts,
                first_token_prompt_tokens=10 * prompts,
                inter_token_seconds=0.1 if decoding else None,
                unfinished_sequences=len(engine.running),
                prefill_sequences=prompts,
                engine=engine.number,
            )
        )
        for name, first_at_seconds, _ in ended:
            seconds = self.now_seconds - first_at_seconds
            self.meter.sequence_ended(name, EndedSequence(10, 10, 5, seconds, engine=engine.number))
            self.meter.request_ended(name, self.now_seconds)
        if not engine.running:
            self.meter.engine_idle(self.now_seconds, engine.number)

    def law_holds(self) -> bool:
        return all(sum(one.accounts.values()) + one.in_flight == one.assigned for one in self.meter.ledgers)

    def _track(self, device: str, component: str) -> CounterTrack:
        return CounterTrack(
            CounterInfo(
                device,
                component,
                "replay",
                measured=False,
                update_period_seconds=0.1,
                uncertainty_ratio=None,
                description="simulated",
            )
        )

    def _sample(self) -> None:
        for track, watts in zip(self.tracks, self.WATTS, strict=True):
            track.observe(EnergyReading(self.now_seconds, round(self.now_seconds * watts * 1e6)))


@settings(deadline=None)
@given(STEPS)
def test_energy_is_conserved_over_engines_that_step_in_their_own_time(
    steps: list[tuple[int, float, float, int, int]],
) -> None:
    server = Server()
    for number, after_seconds, duration_seconds, prompts, ending in steps:
        server.wait(after_seconds)
        server.step(server.engines[number], duration_seconds, prompts, ending)
        assert server.law_holds()
    for engine in server.engines:
        server.wait(0.1)
        server.step(engine, 0.1, 1, len(engine.running))
        server.wait(0.1)
        server.step(engine, 0.1, 0, len(engine.running))
    assert all(ledger.in_flight == 0 for ledger in server.meter.ledgers)
    server.wait(10)
    server.meter.advance(server.now_seconds)
    assert server.law_holds()
    assert server.meter.assigned_microjoules() == server.meter.confirmed_microjoules()


def test_an_engine_pays_for_its_own_board_and_half_of_what_both_use() -> None:
    server = Server()
    first, second = server.engines
    server.wait(1.0)
    names = [server.arrive("r0"), server.arrive("r1")]
    for number in range(10):
        server.wait(0.1)
        server.step(first, 0.1, 0 if number else 1, 0, names[:1])
        server.step(second, 0.1, 0 if number else 1, 0, names[1:])
    server.wait(0.1)
    server.step(first, 0.1, 0, 1)
    server.step(second, 0.1, 0, 1)
    energies = {energy.request_id: energy.components_microjoules for energy in server.meter.recent}
    boards = [energies[name]["gpu"] for name in ("r0", "r1")]
    assert [round(board / 1e6) for board in boards] == [110, 330]
    # Of its first step the first engine pays all: nobody knows yet that the other was running too.
    assert energies["r0"]["cpu"] - energies["r1"]["cpu"] == 5_000_000
    assert round((energies["r0"]["cpu"] + energies["r1"]["cpu"]) / 1e6) == 55
    server.wait(1.0)
    server.meter.advance(server.now_seconds)
    assert server.meter.ledgers[0].accounts["unattributed"] == 0
