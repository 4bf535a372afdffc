import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.report.chart import OTHERS, WIDTH, ranking_chart, shown_energy, stacked_chart

DAYS = [f"2026-01-{day:02d}" for day in range(1, 32)]
ENERGY = st.dictionaries(
    st.tuples(st.sampled_from(DAYS), st.sampled_from("abcdefghij")), st.integers(0, 2**60), max_size=60
)


@given(ENERGY)
def test_bars_are_as_high_as_their_energy_and_stay_inside(energy: dict[tuple[str, str], int]) -> None:
    chart = stacked_chart(DAYS, energy)
    assert all(bar.x >= 0 and bar.x + bar.width <= WIDTH and bar.y >= 0 for bar in chart.bars)
    assert all(bar.y + bar.height <= chart.height for bar in chart.bars)
    total = sum(energy.values())
    if total:
        scale = sum(bar.height for bar in chart.bars) / total
        high = max(sum(e for (at, _), e in energy.items() if at == day) for day in DAYS)
        assert high * scale <= 220 * (1 + 1e-9)
        assert high * scale > 220 / 2


def test_the_largest_models_are_told_apart_and_the_rest_is_others() -> None:
    chart = stacked_chart(["2026-01-01"], {("2026-01-01", name): 10 - n for n, name in enumerate("abcdefgh")})
    assert chart.legend == ("a", "b", "c", "d", "e", OTHERS)
    assert chart.bars[-1].title == "2026-01-01, others: 0.012 mJ"


def test_a_chart_of_nothing_has_no_bars() -> None:
    assert stacked_chart([], {}).bars == ranking_chart({}).bars == ()


def test_tenants_are_ranked_and_the_longest_bar_leaves_room_for_its_value() -> None:
    chart = ranking_chart({"small": 1, "large": 1000, "a-tenant-with-a-very-long-name-indeed": 10})
    assert [label.text for label in chart.labels] == ["large", "a-tenant-with-a-very-long…", "small"]
    assert chart.bars[0].x + chart.bars[0].width < WIDTH - 60
    assert [value.text for value in chart.values] == ["1 mJ", "0.01 mJ", "0.001 mJ"]


@pytest.mark.parametrize(
    ("microjoules", "shown"),
    [(0, "0"), (1, "0.001 mJ"), (2_500_000, "2.5 J"), (1_234_567_890, "1.23 kJ"), (5 * 10**14, "500 MJ")],
)
def test_energy_is_shown_in_the_unit_it_reads_best_in(microjoules: int, shown: str) -> None:
    assert shown_energy(microjoules) == shown
