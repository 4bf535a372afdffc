"""Holds the books of a metered vLLM server against a second reader of the same board, at one batch size after another.

    vllm serve MODEL --enable-logging-iteration-details --middleware metering.vllm_plugin.EnergyMiddleware &
    python -m bench.gpu.serving --url http://127.0.0.1:8000 --model NAME --out FILE

Of a server without the meter it measures speed and the board's energy alone: that is what the meter costs. Nothing
else may use the board or the server meanwhile.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench.gpu.board import Board, BoardLog, Refresh
from bench.gpu.closed_load import Answer, Load, drive

POLL_SECONDS: Final = 0.5
QUIET_SECONDS: Final = 2.0
"""Between batches; the counter has long caught up then."""
IDLE_SECONDS: Final = 8.0
STEADY_RATIO: Final = 0.5
"""The measured part of a load is its last half: by then every stream is past its shortened first request."""
DEFAULT_BATCHES: Final = "1:10,8:10,32:12,64:14,128:18,256:26"

Report = dict[str, Any]


class Watch:
    """The server's books as they were at each look, with the time of the monotonic clock."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self.looks: list[tuple[float, Report]] = []
        self.metered = True

    async def look(self) -> Report | None:
        """The books now; None where the server has none."""
        if not self.metered:
            return None
        async with aiohttp.ClientSession(self._origin) as session, session.get("/energy") as response:
            self.metered = response.status == 200
            if not self.metered:
                return None
            report: Report = await response.json()
        report.pop("recent_requests")
        report.pop("recent_aborts")
        self.looks.append((time.monotonic(), report))
        return report

    async def keep_looking(self) -> None:
        while self.metered:
            await self.look()
            await asyncio.sleep(POLL_SECONDS)


async def run_load(watch: Watch, log: BoardLog, origin: str, model: str, load: Load) -> Report:
    """One load between two quiet times, and what both witnesses say of it."""
    before = await watch.look()
    began = time.monotonic()
    looking = asyncio.create_task(watch.keep_looking())
    answers = await drive(origin, model, load)
    ended = time.monotonic()
    looking.cancel()
    await asyncio.sleep(QUIET_SECONDS)
    after = await watch.look()
    joules, seconds = log.joules_between(began, ended)
    return {
        "load": asdict(load),
        "began_at_seconds": began,
        "seconds": ended - began,
        "requests": len(answers),
        "output_tokens": sum(answer.output_tokens for answer in answers),
        "board_joules_while_loaded": joules,
        "board_seconds_while_loaded": seconds,
        "answers": answers_report(answers),
        "steady": steady(watch, log, load, answers, began),
        "before": before,
        "after": after,
    }


def answers_report(answers: list[Answer]) -> Report:
    """What the callers were told and saw."""
    energies = [answer.energy["energy_joules"] for answer in answers if answer.energy is not None]
    told = [joules for joules in energies if joules is not None]
    gaps = [gap for answer in answers if (gap := answer.seconds_per_token) is not None]
    firsts = [answer.first_at_seconds - answer.sent_at_seconds for answer in answers]
    return {
        "told": len(told),
        "unknown": len(answers) - len(told),
        "sum_joules": sum(told),
        "mean_joules": statistics.fmean(told) if told else None,
        "seconds_per_token_median": statistics.median(gaps),
        "seconds_to_first_token_median": statistics.median(firsts),
        "example": answers[-1].energy,
    }


def steady(watch: Watch, log: BoardLog, load: Load, answers: list[Answer], began: float) -> Report:
    """Power, speed and joules per token while the batch was full."""
    from_seconds, to_seconds = began + load.seconds * (1 - STEADY_RATIO), began + load.seconds
    joules, seconds = log.joules_between(from_seconds, to_seconds)
    tokens = sum(_tokens_between(answer, from_seconds, to_seconds) for answer in answers)
    watts = joules / seconds
    per_second = tokens / (to_seconds - from_seconds)
    found: Report = {
        "board_watts": watts,
        "instant_watts": log.instant_mean_watts(from_seconds, to_seconds),
        "output_tokens_per_second": per_second,
        "joules_per_output_token": watts / per_second,
        "seconds_per_token_by_rate": load.streams / per_second,
    }
    looks = [(at, report) for at, report in watch.looks if from_seconds <= at <= to_seconds]
    if len(looks) >= 2:
        (first_at, first), (last_at, last) = looks[0], looks[-1]
        steps = last["work"]["steps_total"] - first["work"]["steps_total"]
        found["steps"] = steps
        found["seconds_per_step_by_clock"] = (last_at - first_at) / steps
        told = last["work"]["step_seconds_total"] - first["work"]["step_seconds_total"]
        found["seconds_per_step_as_told"] = told / steps
        decoded = last["work"]["decode_tokens_total"] - first["work"]["decode_tokens_total"]
        found["mean_decoding_sequences"] = decoded / steps
        found["prefill_tokens"] = last["work"]["prefill_tokens_total"] - first["work"]["prefill_tokens_total"]
        found["meter_watts"] = (_booked(last) - _booked(first)) / 1e6 / (last_at - first_at)
    return found


def _tokens_between(answer: Answer, from_seconds: float, to_seconds: float) -> float:
    """Tokens of an answer taken to come at a steady rate from its first to its last."""
    if answer.output_tokens < 2 or answer.last_at_seconds <= answer.first_at_seconds:
        return answer.output_tokens if from_seconds <= answer.first_at_seconds < to_seconds else 0
    begin, end = max(from_seconds, answer.first_at_seconds), min(to_seconds, answer.last_at_seconds)
    part = max(0.0, end - begin) / (answer.last_at_seconds - answer.first_at_seconds)
    return part * answer.output_tokens


def _booked(report: Report) -> int:
    """Everything in the books: the left side of the law."""
    accounts = sum(sum(account.values()) for account in report["accounts_microjoules"].values())
    in_flight = sum(sum(phases.values()) for phases in report["in_flight_microjoules"].values())
    return int(accounts + in_flight)


def law(looks: Sequence[tuple[float, Report]], refreshes: Sequence[Refresh]) -> Report:
    """At every look: do the parts add up, and did the second reader see the very value the meter's counter stood at?

    The meter counts from where the counter stood when it began; that is the difference most looks have in common with
    what the second reader saw. The first looks may tell of a value from before he began.
    """
    broken = sum(
        _booked(report) != report["counter_microjoules"] + report["extrapolated_microjoules"] for _, report in looks
    )
    counters = [report["counter_microjoules"] for _, report in looks]
    seen = {refresh.energy_microjoules for refresh in refreshes}
    origins = Counter(energy - counter for counter in dict.fromkeys(counters) for energy in seen)
    ((origin, _),) = origins.most_common(1)
    unseen = sum(origin + counter not in seen for counter in counters)
    return {"looks": len(looks), "that_do_not_add_up": broken, "unseen_by_the_second_reader": unseen}


async def measure(origin: str, model: str, loads: list[Load], out: Path) -> None:
    """All loads, one after another; the record is written after each."""
    board, watch = Board(), Watch(origin)
    record: Report = {"board": board.identity(), "batches": []}
    with BoardLog(board) as log:
        await watch.look()
        await drive(origin, model, Load(streams=8, seconds=2, output_tokens=64, seed=99))
        await asyncio.sleep(QUIET_SECONDS)
        record["idle_before"] = await rest(watch, log, board)
        for load in loads:
            record["batches"].append(await run_load(watch, log, origin, model, load))
            record["batches"][-1]["board_state"] = board.state()
            _write(out, record)
            print(json.dumps(record["batches"][-1]["steady"]), flush=True)
        record["idle_after"] = await rest(watch, log, board)
        record["last_look"] = watch.looks[-1] if watch.looks else None
        record["law"] = law(watch.looks, log.refreshes) if watch.looks else None
        record["looks"] = [(at, _brief(report)) for at, report in watch.looks]
        record["refreshes"] = [(round(one.at_seconds, 4), one.energy_microjoules) for one in log.refreshes]
        _write(out, record)
        print(json.dumps({"law": record["law"]}), flush=True)


async def rest(watch: Watch, log: BoardLog, board: Board) -> Report:
    """Power of the loaded and idle engine, by the board and by the account `idle`."""
    before, began = await watch.look(), time.monotonic()
    await asyncio.sleep(IDLE_SECONDS)
    after, ended = await watch.look(), time.monotonic()
    joules, seconds = log.joules_between(began, ended)
    return {"board_watts": joules / seconds, "before": before, "after": after, "state": board.state()}


def _brief(report: Report) -> Report:
    names = ("counter_microjoules", "extrapolated_microjoules", "accounts_microjoules", "in_flight_microjoules", "work")
    return {name: report[name] for name in names}


def _write(out: Path, record: Report) -> None:
    out.write_text(json.dumps(record))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batches", default=DEFAULT_BATCHES, help="streams:seconds,… [%(default)s]")
    options = parser.parse_args()
    loads = []
    for number, item in enumerate(options.batches.split(",")):
        streams, _, seconds = item.partition(":")
        loads.append(Load(streams=int(streams), seconds=float(seconds), seed=number + 1))
    asyncio.run(measure(options.url, options.model, loads, options.out))


if __name__ == "__main__":
    main()
