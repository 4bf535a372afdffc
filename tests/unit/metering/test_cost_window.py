"""Steps are taught together, once a counter can tell what they cost."""

from metering.cost_window import CostWindow
from metering.step_cost import StepCostModel


class Pupil(StepCostModel):
    """A cost model that remembers what it was taught."""

    def __init__(self) -> None:
        super().__init__()
        self.lessons: list[tuple[float, float, float, float]] = []

    def learn(self, computed_tokens: float, sequences: float, context_tokens: float, energy: float) -> None:
        self.lessons.append((computed_tokens, sequences, context_tokens, energy))


def test_the_mean_of_three_tenths_of_a_second_is_taught() -> None:
    pupil = Pupil()
    window = CostWindow(pupil)
    window.add(0, 4, 400, 0.1, 3_000_000)
    window.add(90, 2, 200, 0.1, 9_000_000)
    assert pupil.lessons == []
    window.add(0, 6, 300, 0.2, 6_000_000)
    assert pupil.lessons == [(30.0, 4.0, 300.0, 6_000_000)]
    window.add(0, 1, 1, 0.4, 5)
    assert pupil.lessons[1:] == [(0.0, 1.0, 1.0, 5.0)]


def test_what_came_before_a_pause_is_not_taught() -> None:
    pupil = Pupil()
    window = CostWindow(pupil)
    window.add(0, 4, 400, 0.2, 3)
    window.clear()
    window.add(0, 4, 400, 0.2, 3)
    assert pupil.lessons == []
