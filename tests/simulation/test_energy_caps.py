"""Energy caps over the meter in virtual time: steps of noisy cost, batches that change, a counter that lags behind."""

from dataclasses import dataclass
from random import Random

import pytest

from metering.energy_cap import EnergyCap
from tests.simulation.metered_engine import MeteredEngine, PhysicalCounter, Request, Sequence

CAP_JOULES = 150.0
MOST_STEPS = 5000


@dataclass
class CappedRun:
    """One capped request among others that come and go; it is looked at after each step as the plugin does."""

    engine: MeteredEngine
    chance: Random
    request: Request
    cap: EnergyCap
    row: int | None = None
    others: int = 0
    dearest_microjoules: int = 0
    last_microjoules: int = 0

    @property
    def sequence(self) -> Sequence:
        return self.request.sequences[0]

    def run(self) -> int:
        """What the request is told that it cost."""
        self.engine.arrive(self.request)
        for _ in range(MOST_STEPS):
            self.step()
            if self.must_end():
                break
        ended = self.sequence.ended()
        self.sequence.cut_off = True  # the step that is running still computes it; its token is thrown away
        self.step()
        assert self.row is not None
        self.engine.meter.sequence_ended("capped", ended, self.row)
        self.engine.respond(self.request)
        assert self.request.energy is not None
        return self.request.energy.microjoules

    def step(self) -> None:
        while self.chance.random() < 0.04 * (6 - len(self.engine.running)):
            self.others += 1
            name = f"other-{self.others}"
            other = Sequence(name, self.chance.randint(4, 60), 0, self.chance.randint(2, 80))
            self.engine.arrive(Request(name, [other]))
        noise = self.chance.uniform(0.8, 1.2)
        self.engine.step(0.03 * noise, (80 + 15 * len(self.engine.running)) * self.chance.uniform(0.9, 1.1))
        for request in self.engine.finished():
            if request is not self.request:
                self.engine.respond(request)

    def must_end(self) -> bool:
        if not self.sequence.output_tokens:
            return False
        ended = self.sequence.ended()
        if self.row is None:
            self.row = self.engine.meter.first_row_of(ended)
        prefill, decode = self.engine.meter.energy_so_far("capped", [(self.row, ended)])
        self.dearest_microjoules = max(self.dearest_microjoules, decode - self.last_microjoules)
        self.last_microjoules = decode
        return self.cap.must_end(prefill, decode, 1)


@pytest.mark.parametrize("period_seconds", [0.0, 0.02, 0.1], ids=["exact", "every 20 ms", "every 100 ms"])
@pytest.mark.parametrize("seed", range(20))
def test_a_capped_request_among_others_ends_near_its_cap_and_nothing_is_lost(seed: int, period_seconds: float) -> None:
    chance = Random(seed)
    counter = PhysicalCounter("gpu", period_seconds)
    engine = MeteredEngine([counter], token_budget=64)
    capped = Request("capped", [Sequence("capped", chance.randint(4, 60), 0, MOST_STEPS)])
    run = CappedRun(engine, chance, capped, EnergyCap(CAP_JOULES))
    spent = run.run()
    assert spent == pytest.approx(CAP_JOULES * 1e6, rel=0.05)
    assert spent <= CAP_JOULES * 1e6 + run.dearest_microjoules
    while engine.running or engine.waiting:
        run.step()
    (ledger,) = engine.meter.ledgers
    assert sum(ledger.accounts.values()) + ledger.in_flight == ledger.assigned
    charged = engine.meter.totals.completed_microjoules + engine.meter.totals.aborted_microjoules
    assert charged == ledger.accounts["prefill"] + ledger.accounts["decode"]
    assert ledger.accounts["unattributed"] <= 0.001 * charged
