"""Bar charts as geometry: where each bar, tick and label of a summary goes. The page's template draws them as SVG."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from metering.counter import MICROJOULES_PER_JOULE

OTHERS: Final = "others"
# As many as there are colours that can be told apart.
_MAX_SERIES: Final = 6
_UNITS: Final = ((1e9, "GJ"), (1e6, "MJ"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"))
_NICE_STEPS: Final = (1, 2, 2.5, 5, 10)
_TICKS: Final = 4

WIDTH: Final = 720
_LEFT: Final = 62
_RIGHT: Final = 30
_TOP: Final = 12
_PLOT_HEIGHT: Final = 220
_LABEL_HEIGHT: Final = 24
_MAX_BAR: Final = 42
_CHARACTER_WIDTH: Final = 7
_BETWEEN_LABELS: Final = 18
_ROW_HEIGHT: Final = 30
_NAME_WIDTH: Final = 180
_VALUE_WIDTH: Final = 90
_CHARACTERS: Final = 26


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle in the colour of its series."""

    x: float
    y: float
    width: float
    height: float
    series: int
    title: str


@dataclass(frozen=True, slots=True)
class Label:
    """Text at a point: of a tick, of a bar's instant or name."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing `width` by `height`; `ticks` are lines across it, `legend` the names of the series."""

    width: float
    height: float
    bars: tuple[Bar, ...]
    ticks: tuple[Label, ...]
    labels: tuple[Label, ...]
    legend: tuple[str, ...]
    left: float = 0.0
    values: tuple[Label, ...] = ()


def stacked_chart(instants: Sequence[str], energy: Mapping[tuple[str, str], int]) -> Chart:
    """Microjoules by instant and series, as one stack an instant; the series that used most are told apart."""
    names = _largest(energy)
    stacks: dict[str, list[int]] = {instant: [0] * len(names) for instant in instants}
    for (instant, name), microjoules in energy.items():
        stacks[instant][names.index(name if name in names else OTHERS)] += microjoules
    step, top = _scale(max(map(sum, stacks.values()), default=0))
    slot = (WIDTH - _LEFT - _RIGHT) / max(1, len(instants))
    bar_width = min(_MAX_BAR, slot * 0.8)
    bars: list[Bar] = []
    for number, (instant, stack) in enumerate(stacks.items()):
        x, y = _LEFT + slot * number + (slot - bar_width) / 2, float(_TOP + _PLOT_HEIGHT)
        for series, microjoules in enumerate(stack):
            if height := _PLOT_HEIGHT * microjoules / top:
                y -= height
                title = f"{instant}, {names[series]}: {shown_energy(microjoules)}"
                bars.append(Bar(x, y, bar_width, height, series, title))
    ticks = [
        Label(_LEFT, _TOP + _PLOT_HEIGHT * (1 - step * n / top), shown_energy(step * n))
        for n in range(round(top / step) + 1)
    ]
    label_width = max(map(len, instants), default=0) * _CHARACTER_WIDTH + _BETWEEN_LABELS
    every = max(1, math.ceil(label_width / slot))
    baseline = _TOP + _PLOT_HEIGHT + _LABEL_HEIGHT * 0.75
    labels = [Label(_LEFT + slot * (n + 0.5), baseline, instants[n]) for n in range(0, len(instants), every)]
    height = _TOP + _PLOT_HEIGHT + _LABEL_HEIGHT
    return Chart(WIDTH, height, tuple(bars), tuple(ticks), tuple(labels), tuple(names), _LEFT)


def ranking_chart(energy: Mapping[str, int]) -> Chart:
    """Microjoules by name as bars from the left, the largest first."""
    names = _largest({("", name): microjoules for name, microjoules in energy.items()}, 12)
    sums = dict.fromkeys(names, 0)
    for name, microjoules in energy.items():
        sums[name if name in sums else OTHERS] += microjoules
    most = max(sums.values(), default=0) or 1
    room = WIDTH - _NAME_WIDTH - _VALUE_WIDTH
    bars, labels, values = [], [], []
    for number, (name, microjoules) in enumerate(sums.items()):
        y, width = _ROW_HEIGHT * number, max(1.0, room * microjoules / most)
        shown = shown_energy(microjoules)
        bars.append(Bar(_NAME_WIDTH, y + 5, width, _ROW_HEIGHT - 10, 0, f"{name or '-'}: {shown}"))
        labels.append(Label(_NAME_WIDTH - 10, y + _ROW_HEIGHT * 0.65, _shortened(name)))
        values.append(Label(_NAME_WIDTH + width + 8, y + _ROW_HEIGHT * 0.65, shown))
    height = _ROW_HEIGHT * max(1, len(sums))
    return Chart(WIDTH, height, tuple(bars), (), tuple(labels), (), _NAME_WIDTH, tuple(values))


def shown_energy(microjoules: float) -> str:
    """Three digits and the unit they are best read in."""
    joules = microjoules / MICROJOULES_PER_JOULE
    factor, unit = next(((f, u) for f, u in _UNITS if joules >= f), _UNITS[-1])
    return f"{joules / factor:.3g} {unit}" if joules else "0"


def _largest(energy: Mapping[tuple[str, str], int], most: int = _MAX_SERIES) -> list[str]:
    """The names that used most, in that order; the rest together where there are too many."""
    sums: defaultdict[str, int] = defaultdict(int)
    for (_, name), microjoules in energy.items():
        sums[name] += microjoules
    names = sorted(sums, key=lambda name: (-sums[name], name))
    return names if len(names) <= most else [*_without_others(names[: most - 1]), OTHERS]


def _without_others(names: Iterable[str]) -> list[str]:
    return [name for name in names if name != OTHERS]


def _scale(most: float) -> tuple[float, float]:
    """A round step between ticks, and where the axis ends."""
    if most <= 0:
        return 1.0, float(_TICKS)
    rough = most / _TICKS
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(nice * magnitude for nice in _NICE_STEPS if nice * magnitude >= rough * (1 - 1e-9))
    return step, step * math.ceil(most / step - 1e-9)


def _shortened(name: str) -> str:
    return name if len(name) <= _CHARACTERS else f"{name[: _CHARACTERS - 1]}…"
