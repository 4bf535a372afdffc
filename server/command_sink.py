"""Where every command of the scheduler ends up: done, counted, kept and told. Requests' own waiters are told before."""

import logging
from collections.abc import Mapping
from typing import Protocol

from scheduler.commands import Command, Dispatch, Notice, Park, Start
from server.decision_log import DecisionLog
from server.metrics import ServerMetrics

logger = logging.getLogger("wattline.server")


class ParkableWorker(Protocol):
    """Whose process can be stopped and started; neither call waits for it."""

    def park(self) -> None: ...

    def unpark(self) -> None: ...


class CommandSink:
    """Takes every command in its order. `workers` may be filled in later, but before the first is to be parked."""

    def __init__(self, workers: Mapping[str, ParkableWorker], metrics: ServerMetrics, log: DecisionLog) -> None:
        self._workers = workers
        self._metrics = metrics
        self._log = log

    def take(self, command: Command) -> None:
        self._log.take(command)
        match command:
            case Dispatch(_, worker_id, reason):
                self._metrics.dispatched(worker_id, reason)
            case Park(worker_id, reason):
                logger.info("parking worker %s: %s", worker_id, reason)
                self._metrics.commanded(worker_id, "park")
                self._workers[worker_id].park()
            case Start(worker_id, reason):
                logger.info("starting worker %s: %s", worker_id, reason)
                self._metrics.commanded(worker_id, "start")
                self._workers[worker_id].unpark()
            case Notice(worker_id, code, reason):
                logger.warning("%s: worker %s: %s", code, worker_id, reason)
