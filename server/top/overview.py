"""The first view: power and its curve, joules per token, where the energy went, what waits and how fast it is."""

from collections.abc import Mapping, Sequence
from typing import Final

from rich.text import Text

from metering.ledger import ACCOUNTS
from server.top.bars import bar, curve
from server.top.live_body import Known, LiveBody, total_watts
from server.top.state import TopState
from server.units import UNKNOWN, format_count, format_joules, format_ratio, format_seconds, format_watts

_ACCOUNT_STYLES: Final[Mapping[str, str]] = {
    "prefill": "cyan",
    "decode": "green",
    "idle": "yellow",
    "loading": "blue",
    "unattributed": "red",
    "in flight": "magenta",
}
_LABEL_WIDTH: Final = 13
_VALUE_WIDTH: Final = 9
_SHARE_WIDTH: Final = 6
_LEAST_BAR: Final = 4
_COLUMN_GAP: Final = 2
_DONE: Final = "completed"
_NARROW: Final = 100
_CURVE_STYLE: Final = "green"


def power_lines(body: LiveBody, watts: Sequence[float | None], width: int, height: int) -> list[Text]:
    """Watts now, joules per token, and below them `height` lines of the power at each answer so far."""
    total = total_watts(body.power_watts)
    known = {name: value for name, value in body.power_watts.items() if value is not None}
    parts = "" if len(body.power_watts) < 2 else "  " + " ".join(f"{k} {format_watts(v)}" for k, v in known.items())
    line = Text.assemble(
        ("Power ", "bold"), (format_watts(total), "bold green" if total is not None else "bold yellow")
    )
    line.append(parts, "dim")
    line.append("   Energy ", "bold").append_text(_per_token(body, is_narrow=width < _NARROW))
    lines = [_cut(line, width)]
    if (why := _why_unknown(body, total)) is not None:
        lines.append(_cut(Text(f"      {why}", style="yellow"), width))
    if height and any(value is not None for value in watts):
        top = max(value for value in watts[-width:] if value is not None) if _any(watts[-width:]) else None
        scale = f" 0 to {format_watts(top)}"
        curve_width = width - len(scale)
        drawn = curve(watts, curve_width, height)
        lines += [Text(text, style=_CURVE_STYLE) for text in drawn[:-1]]
        lines.append(Text.assemble((drawn[-1], _CURVE_STYLE), (scale, "dim")))
    return lines


def account_lines(body: LiveBody, width: int) -> list[Text]:
    """A bar for each account, with its joules and its share of them all."""
    energies: dict[str, Known] = {name: body.accounts_joules.get(name) for name in ACCOUNTS}
    energies |= {name: value for name, value in body.accounts_joules.items() if name not in energies}
    energies["in flight"] = body.in_flight_joules
    total = sum(value for value in energies.values() if value is not None)
    lines = [_title("Energy by account", format_joules(total if _any(list(energies.values())) else None))]
    room = width - _LABEL_WIDTH - _VALUE_WIDTH - _SHARE_WIDTH - 2
    for name, energy in energies.items():
        share = None if energy is None else energy / total if total > 0 else 0.0
        line = Text(f"{name:<{_LABEL_WIDTH}}")
        if room >= _LEAST_BAR:
            line.append(bar(share, room), _ACCOUNT_STYLES.get(name, "white")).append(" ")
        line.append(f"{format_joules(energy):>{_VALUE_WIDTH}}", "dim" if energy is None else "")
        line.append(f"{format_ratio(share):>{_SHARE_WIDTH}}", "dim")
        lines.append(line)
    return lines


def traffic_lines(body: LiveBody, width: int) -> list[Text]:
    """Requests and tokens so far, what waits by tier, latencies beside their targets."""
    others = [f"{format_count(value)} {name}" for name, value in body.requests.items() if value and name != _DONE]
    counted = ", ".join([format_count(body.requests.get(_DONE)), *others])
    tokens = " ".join(f"{format_count(value)} {name}" for name, value in body.tokens.items())
    waiting = " ".join(f"{format_count(value)} {name}" for name, value in body.queue_requests.items())
    met = body.latency.get("slo_attainment_ratio")
    lines = [
        _title("Traffic", ""),
        _labelled("requests", counted),
        _labelled("tokens", tokens or UNKNOWN),
        _labelled("queue", waiting or UNKNOWN, "yellow" if any(body.queue_requests.values()) else ""),
        _latency(body, "TTFT", "ttft"),
        _latency(body, "TPOT", "tpot"),
        _labelled("in target", format_ratio(met) if met is not None else f"{UNKNOWN} (no request to judge by)"),
    ]
    return [_cut(line, width) for line in lines]


def side_by_side(left: Sequence[Text], right: Sequence[Text], left_width: int) -> list[Text]:
    """Two columns of lines."""
    lines = []
    for number in range(max(len(left), len(right))):
        line = left[number].copy() if number < len(left) else Text()
        line.pad_right(max(0, left_width + _COLUMN_GAP - line.cell_len))
        lines.append(line.append_text(right[number]) if number < len(right) else line)
    return lines


def summary_lines(state: TopState, width: int, curve_height: int) -> list[Text]:
    """The upper part of the view, which holds for the whole server."""
    body = state.shown
    if body is None:
        return [Text("Waiting for the server's first answer …", style="dim")]
    left_width = (width - _COLUMN_GAP) // 2
    return [
        *power_lines(body, state.watts, width, curve_height),
        Text(),
        *side_by_side(
            account_lines(body, left_width), traffic_lines(body, width - left_width - _COLUMN_GAP), left_width
        ),
    ]


def _per_token(body: LiveBody, *, is_narrow: bool) -> Text:
    now, ever = (body.joules_per_output_token.get(name) for name in ("last_minute", "since_start"))
    text = Text().append(_joules_each(now), "bold cyan" if now is not None else "dim")
    text.append(" now, " if is_narrow else " in the last minute, ", "dim").append(format_joules(ever))
    return text.append(" overall" if is_narrow else " since the start", "dim")


def _joules_each(joules: float | None) -> str:
    return UNKNOWN if joules is None else f"{format_joules(joules)}/token"


def _why_unknown(body: LiveBody, total: float | None) -> str | None:
    """The reason that a sum is not known or not the whole, as far as the server tells one."""
    if body.reason is not None:
        return f"not the whole: {body.reason}" if total is not None else f"not known: {body.reason}"
    if total is None:
        return "not known: no worker tells its power" if body.workers else "not known: there is no worker"
    return None


def _latency(body: LiveBody, name: str, key: str) -> Text:
    half, most = (body.latency.get(f"{key}_{quantile}_seconds") for quantile in ("p50", "p99"))
    target = body.targets.get(f"{key}_seconds")
    style = "" if most is None or target is None else "red" if most > target else "green"
    line = Text(f"{name:<10}").append(f"p50 {format_seconds(half)} p99 ").append(format_seconds(most), style)
    return line.append(f" of {target:g} s", "dim") if target is not None else line


def _title(text: str, value: str) -> Text:
    return Text.assemble((text, "bold"), " " if value else "", (value, "bold"))


def _labelled(label: str, text: str, style: str = "") -> Text:
    return Text(f"{label:<10}").append(text, style)


def _cut(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    return line


def _any(values: Sequence[float | None]) -> bool:
    return any(value is not None for value in values)
