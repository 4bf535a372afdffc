"""What the engines started here will measure by, found out before they are started."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from metering.choice import ENGINES_ON_HOST_KEY, choose_counters
from server.settings import Settings


@dataclass(frozen=True, slots=True)
class MeterFacts:
    """`components` are what is counted: gpu, cpu, dram. `refused` names the better sources that do not work here."""

    source: str
    measured: bool
    components: tuple[str, ...]
    refused: tuple[str, ...] = ()


def meter_facts(settings: Settings, environ: Mapping[str, str] = os.environ) -> MeterFacts | None:
    """Open and close the counters once, so that a meter that cannot work stops the start, not the engine.

    None where only running servers are attached: they measure by themselves.

    Raises:
        MeteringError: what was asked for cannot be measured here.
    """
    started = [model for model in settings.all_models() if not model.worker_urls]
    if not started:
        return None
    # As the engines will be told: counters of the whole host belong to one of them only.
    engines = str(sum(model.workers for model in started))
    told = {ENGINES_ON_HOST_KEY: engines, **environ}
    with_gpus = any(model.device != "cpu" for model in started)
    choice = choose_counters(settings.meter, time.monotonic, os.getpid(), told, with_gpus=with_gpus)
    infos = [counter.info for counter in choice.counters]
    for counter in choice.counters:
        counter.close()
    return MeterFacts(
        choice.source,
        all(info.measured for info in infos),
        tuple(dict.fromkeys(info.component for info in infos)),
        tuple(dict.fromkeys(refusal.source for refusal in choice.refused)),
    )
