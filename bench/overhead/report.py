"""An overhead benchmark's result as a table for people, with what we hold ourselves to."""

from typing import Final

from bench.contest import Contest
from bench.overhead.contenders import DIRECT, WATTLINE
from bench.overhead.study import HeldComparison, OverheadResult

_BYTES_PER_MEBIBYTE: Final = 1024 * 1024
_BYTES_PER_KIBIBYTE: Final = 1024
_LEAST_REQUESTS_RATIOS: Final = {"vllm-router": 0.25, "litellm": 15.0}
_LEAST_CHUNKS_RATIOS: Final = {"vllm-router": 0.85}
_MOST_ADDED_GAP_SECONDS: Final = 0.05


def overhead_table(result: OverheadResult) -> str:
    """The medians of all, then one line for each thing that is compared with a target."""
    memory = result.memory
    first, last = (bytes_ / _BYTES_PER_MEBIBYTE for bytes_ in (memory.first_peak_rss_bytes, memory.last_peak_rss_bytes))
    lines = [*_table([result.chat_requests, result.stream_chunks, result.coalesced_chunks]), ""]
    lines += _verdicts(result.chat_requests, _LEAST_REQUESTS_RATIOS)
    lines += _verdicts(result.stream_chunks, _LEAST_CHUNKS_RATIOS)
    lines.append(
        f"peak memory of the front end: {first:.1f} MiB after {memory.first_requests:,} requests, "
        f"{last:.1f} MiB after {memory.last_requests:,}, ratio {memory.ratio:.3f}, errors {memory.errors}"
    )
    if result.held is not None:
        lines += _held_lines(result.held)
    lines.append(f"switched on in the front end: {', '.join(result.switched_on) or 'nothing'}")
    lines += [f"beside it: {requirement}" for requirement in result.versions.values()]
    lines += [f"left out: {name}: {reason}" for name, reason in result.left_out.items()]
    return "\n".join(lines)


def _table(contests: list[Contest]) -> list[str]:
    names = list(dict.fromkeys(who for contest in contests for who in contest.samples))
    width = max(len(contest.name) for contest in contests)
    lines = [f"{'':{width}} " + " ".join(f"{name:>12}" for name in names) + "  over direct  errors"]
    for contest in contests:
        medians = [f"{contest.median(who):12,.1f}" if who in contest.samples else f"{'-':>12}" for who in names]
        ratio = contest.ratio(WATTLINE, DIRECT)
        errors = sum(map(contest.errors, contest.samples))
        lines.append(
            f"{contest.name:{width}} {' '.join(medians)}  {'-' if ratio is None else f'{ratio:.3f}':>11}  {errors:>6}"
        )
    return lines


def _verdicts(contest: Contest, least_ratios: dict[str, float]) -> list[str]:
    lines = []
    for who in contest.samples:
        ratio = contest.ratio(WATTLINE, who)
        if who in {DIRECT, WATTLINE} or ratio is None:
            continue
        least = least_ratios.get(who)
        target = "" if least is None else f" (at least {least:g}: {_met(is_met=ratio >= least)})"
        lines.append(f"{contest.name}: {ratio:.2f} of {who}'s{target}")
    return lines


def _held_lines(held: HeldComparison) -> list[str]:
    through, idle = held.through, held.idle
    lines = [
        f"{one.most_at_once:,} of {one.streams:,} streams at once for {one.measured_seconds:.0f} s, {name}: "
        f"gap p50 {_milliseconds(one.gap_p50_seconds)}, p99 {_milliseconds(one.gap_p99_seconds)}, "
        f"longest {_milliseconds(one.gap_longest_seconds)}, {one.chunks:,} chunks, errors {one.errors}"
        for name, one in ((DIRECT, held.direct), (WATTLINE, through))
    ]
    added = held.added_gap_p99_seconds
    is_met = added is not None and added < _MOST_ADDED_GAP_SECONDS and not through.errors
    lines.append(
        f"added to the p99 gap: {_milliseconds(added)} "
        f"(under {_milliseconds(_MOST_ADDED_GAP_SECONDS)} and no error: {_met(is_met=is_met)})"
    )
    lines.append(
        f"memory of the front end: {idle.bytes_per_stream / _BYTES_PER_KIBIBYTE:.1f} KiB an idle stream, "
        f"with {idle.streams:,} open"
    )
    return lines


def _met(*, is_met: bool) -> str:
    return "met" if is_met else "NOT MET"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"
