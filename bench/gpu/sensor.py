"""What a board's sensor is like: watts in each state of rest, how often the counter refreshes, what a reading costs.

    python -m bench.gpu.sensor --out FILE          # needs torch; about two minutes
    python -m bench.gpu.sensor --bare --out FILE   # no context of our own: before or after other processes

Nothing else may use the board meanwhile. Its settings (clocks, limits) are left as they are.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench.gpu.board import Board, BoardLog

WEIGHT_BYTES: Final = 16_000_000_000
"""Eight billion parameters in bfloat16."""
MATRIX_SIZE: Final = 8192
COPIED_BYTES: Final = 4_000_000_000
REFRESH_SECONDS: Final = 3.0
READS: Final = 400
SETTLE_SECONDS: Final = 5.0
"""Until clocks have fallen after work; watched: they do so within about two."""
STATE_SECONDS: Final = 6.0
LOAD_SECONDS: Final = 8.0
WAVE_SECONDS: Final = 1.0
WAVES: Final = 4


class Record:
    """Findings by name; written to the file with each, so that nothing is lost when time runs out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Any] = {}

    def add(self, name: str, finding: Any) -> None:  # noqa: ANN401  # whatever JSON can hold
        self._found[name] = finding
        self._path.write_text(json.dumps(self._found))
        print(name, json.dumps(finding)[:400], flush=True)


def reading_cost_microseconds(read: Callable[[], object]) -> dict[str, float]:
    """Of one reading, over `READS` in a row."""
    costs = []
    for _ in range(READS):
        began = time.perf_counter()
        read()
        costs.append((time.perf_counter() - began) * 1e6)
    return {"median": statistics.median(costs), "p99": sorted(costs)[int(0.99 * READS)], "most": max(costs)}


def refresh_seconds(board: Board) -> dict[str, float]:
    """Times between changes of the counter, polled as fast as it answers."""
    changes: list[float] = []
    previous, reads = board.energy_microjoules(), 0
    deadline = time.monotonic() + REFRESH_SECONDS
    while (now := time.monotonic()) < deadline:
        energy, reads = board.energy_microjoules(), reads + 1
        if energy != previous:
            changes.append(now)
            previous = energy
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(changes))
    if not gaps:
        return {"reads": reads, "changes": len(changes)}
    return {
        "reads": reads,
        "changes": len(changes),
        "least": gaps[0],
        "median": statistics.median(gaps),
        "p90": gaps[int(0.9 * len(gaps))],
        "most": gaps[-1],
    }


def mean_power(board: Board, log: BoardLog, seconds: float, work: Callable[[], object] | None = None) -> dict[str, Any]:
    """Mean watts over `seconds` by the counter and by the instantaneous power, with `work` done again and again."""
    began = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        if work is None:
            time.sleep(began + seconds - now)
        else:
            work()
    state = board.state()
    joules, counted_seconds = log.joules_between(began, now)
    return {
        "counter_watts": joules / counted_seconds,
        "counted_seconds": counted_seconds,
        "instant_watts": log.instant_mean_watts(began, now),
        "averaged_watts_at_end": board.averaged_watts(),
        **state,
    }


def rest(board: Board, log: BoardLog) -> dict[str, Any]:
    """Mean power of a board left alone, once its clocks have settled."""
    time.sleep(SETTLE_SECONDS)
    return mean_power(board, log, STATE_SECONDS)


def watch_context(board: Board, log: BoardLog, record: Record) -> None:
    """Go through the states of a process that has a CUDA context, weights and work."""
    import torch  # noqa: PLC0415  # not before: a bare board has no context

    torch.zeros(1, device="cuda")
    record.add("context", rest(board, log))
    watch_weights(board, log, record)
    torch.cuda.empty_cache()
    record.add("context_after_load", rest(board, log))


def watch_weights(board: Board, log: BoardLog, record: Record) -> None:
    """Go through rest and work over as much memory as a model of eight billion parameters takes."""
    import torch  # noqa: PLC0415  # see above

    weights = torch.empty(WEIGHT_BYTES // 2, dtype=torch.bfloat16, device="cuda").normal_()
    torch.cuda.synchronize()
    record.add("weights", rest(board, log))

    left, right = (torch.randn(MATRIX_SIZE, MATRIX_SIZE, device="cuda").bfloat16() for _ in range(2))
    product = torch.empty_like(left)

    def multiply() -> None:
        for _ in range(20):
            torch.mm(left, right, out=product)
        torch.cuda.synchronize()

    source, target = weights[: COPIED_BYTES // 2], weights[COPIED_BYTES // 2 : COPIED_BYTES]

    def copy() -> None:
        for _ in range(5):
            target.copy_(source)
        torch.cuda.synchronize()

    mean_power(board, log, 1.0, multiply)
    record.add("multiplying", mean_power(board, log, LOAD_SECONDS, multiply))
    record.add("reading_cost_microseconds_after_load", reading_cost_microseconds(board.energy_microjoules))
    mean_power(board, log, 1.0, copy)
    record.add("copying", mean_power(board, log, LOAD_SECONDS, copy))
    record.add("weights_after_load", rest(board, log))

    edges = []
    for _ in range(WAVES):
        began = time.monotonic()
        mean_power(board, log, WAVE_SECONDS, multiply)
        edges.append((began, time.monotonic()))
        time.sleep(WAVE_SECONDS)
    record.add("waves", edges)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bare", action="store_true", help="only what needs no CUDA context")
    options = parser.parse_args()
    board, record = Board(), Record(options.out)
    record.add("board", board.identity())
    with BoardLog(board) as log:
        record.add("bare", rest(board, log))
    record.add("energy_reading_cost_microseconds", reading_cost_microseconds(board.energy_microjoules))
    record.add("power_reading_cost_microseconds", reading_cost_microseconds(board.instant_watts))
    record.add("refresh_seconds", refresh_seconds(board))
    if options.bare:
        return
    with BoardLog(board) as log:
        watch_context(board, log, record)
        record.add("refreshes", [(one.at_seconds, one.energy_microjoules) for one in log.refreshes])
        record.add("instants", [(round(at, 4), watts) for at, watts in log.instants])


if __name__ == "__main__":
    main()
