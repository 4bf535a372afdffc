"""The life of a supervised worker in virtual time, over an engine that behaves as it is told."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from scheduler.events import WorkerEvent, WorkerLost, WorkerParked, WorkerReady
from tests.simulation.virtual_time_loop import run_in_virtual_time
from workers.engine import EngineAddress, EngineReady
from workers.errors import EngineStartError
from workers.supervisor import Supervisor, WorkerState

READY = EngineReady(frozenset({"m"}), metered=True)
START_SECONDS = 40.0


class Engine:
    """Comes up in 40 seconds and runs until it is stopped or crashes. `starts_fail` of its next starts fail."""

    worker_id = "w"
    address = EngineAddress("http://engine", Path("/nowhere"))

    def __init__(self, *, can_park: bool = True) -> None:
        self.can_park = can_park
        self.starts_fail = 0
        self.start_takes_seconds = START_SECONDS
        self.stop_takes_seconds = 0.0
        self.running = 0
        self.graces_seconds: list[float] = []
        self._end: asyncio.Future[str] | None = None

    async def start(self) -> None:
        assert self.running == 0, "an engine is stopped before it is started again"
        self.running += 1
        self._end = asyncio.get_running_loop().create_future()

    async def wait_ready(self) -> EngineReady:
        await asyncio.sleep(self.start_takes_seconds)
        if self.starts_fail > 0:
            self.starts_fail -= 1
            raise EngineStartError("out of memory")
        return READY

    async def wait_lost(self) -> str:
        assert self._end is not None
        return await asyncio.shield(self._end)

    async def stop(self, grace_seconds: float) -> None:
        self.graces_seconds.append(grace_seconds)
        await asyncio.sleep(self.stop_takes_seconds)
        self.running = 0

    def crash(self) -> None:
        assert self._end is not None
        self._end.set_result("exit code 137")


class Scene:
    """A supervisor at work, and what it told, with the instant."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.told: list[tuple[float, WorkerEvent]] = []
        loop = asyncio.get_running_loop()
        self.last_words_seconds = 0.0
        self.last_words_of: list[int] = []
        self.supervisor = Supervisor(
            engine, self._tell, lambda _: None, loop.time, 8, hardware="cpu", before_parking=self._hear_last_words
        )
        self.task = asyncio.create_task(self.supervisor.run())

    def _tell(self, event: WorkerEvent) -> None:
        self.told.append((round(asyncio.get_running_loop().time(), 3), event))

    async def _hear_last_words(self) -> None:
        assert self.is_in(WorkerState.READY)
        self.last_words_of.append(self.engine.running)
        await asyncio.sleep(self.last_words_seconds)

    @property
    def kinds(self) -> list[tuple[float, type[WorkerEvent]]]:
        return [(at_seconds, type(event)) for at_seconds, event in self.told]

    def is_in(self, state: WorkerState) -> bool:
        return self.supervisor.state is state

    def is_parked(self) -> bool:
        return self.supervisor.is_parked

    def last(self) -> WorkerEvent:
        return self.told[-1][1]


def play(scene: Callable[[Scene], Awaitable[None]], engine: Engine | None = None) -> None:
    async def whole() -> None:
        played = Scene(engine or Engine())
        try:
            await scene(played)
            assert not played.task.done(), played.task.result()
        finally:
            played.task.cancel()
            await asyncio.gather(played.task, return_exceptions=True)

    run_in_virtual_time(whole())


def test_ready_says_how_long_the_start_took_on_what_and_that_it_can_be_parked() -> None:
    async def scene(at: Scene) -> None:
        await asyncio.sleep(50)
        ready = WorkerReady("w", READY.models, 8, hardware="cpu", can_park=True, start_seconds=40.0)
        assert at.told == [(40.0, ready)]

    play(scene)


def test_somebody_elses_server_has_no_start_and_ignores_parking() -> None:
    async def scene(at: Scene) -> None:
        await asyncio.sleep(50)
        at.supervisor.park()
        await asyncio.sleep(10)
        assert at.told == [(40.0, WorkerReady("w", READY.models, 8, hardware="cpu"))]
        at.engine.crash()
        await asyncio.sleep(0.5)
        assert at.last() == WorkerLost("w", "exit code 137", returns_in_seconds=None)

    play(scene, Engine(can_park=False))


def test_park_stops_the_process_and_unpark_starts_it_again_and_neither_is_a_restart() -> None:
    async def scene(at: Scene) -> None:
        at.engine.stop_takes_seconds = 3.0
        await asyncio.sleep(50)
        at.supervisor.park()
        await asyncio.sleep(1)
        assert at.is_in(WorkerState.PARKING)
        await asyncio.sleep(9)
        assert at.is_in(WorkerState.PARKED)
        assert at.last() == WorkerParked("w")
        assert at.engine.running == 0
        assert at.engine.graces_seconds == [12.0], "politely"
        await asyncio.sleep(1000)
        assert at.kinds == [(40.0, WorkerReady), (53.0, WorkerParked)]
        at.supervisor.unpark()
        await asyncio.sleep(1)
        assert at.is_in(WorkerState.STARTING)
        await asyncio.sleep(50)
        assert at.kinds[2:] == [(1100.0, WorkerReady)]
        assert at.supervisor.restarts == 0

    play(scene)


def test_a_worker_that_is_to_be_parked_is_heard_once_more_while_it_runs() -> None:
    async def scene(at: Scene) -> None:
        await asyncio.sleep(50)
        at.supervisor.park()
        await asyncio.sleep(1)
        assert at.last_words_of == [1]
        assert at.kinds == [(40.0, WorkerReady), (50.0, WorkerParked)]

    play(scene)


def test_a_worker_that_hangs_while_it_is_heard_once_more_is_parked_and_starts_again() -> None:
    async def scene(at: Scene) -> None:
        at.last_words_seconds = 2.0
        await asyncio.sleep(50)
        at.supervisor.park()
        await asyncio.sleep(1)
        at.supervisor.hang("no progress")
        await asyncio.sleep(5)
        assert at.is_in(WorkerState.PARKED)
        assert at.last() == WorkerParked("w")
        at.supervisor.unpark()
        await asyncio.sleep(50)
        assert isinstance(at.last(), WorkerReady)

    play(scene)


def test_it_counts_as_parked_until_it_is_ready_again_or_could_not_be_started() -> None:
    async def scene(at: Scene) -> None:
        await asyncio.sleep(20)
        assert not at.is_parked(), "nobody parked it: it starts"
        await asyncio.sleep(30)
        at.supervisor.park()
        await asyncio.sleep(100)
        assert at.is_parked()
        at.supervisor.unpark()
        await asyncio.sleep(20)
        assert at.is_parked(), "on its way up"
        await asyncio.sleep(30)
        assert at.is_in(WorkerState.READY)
        assert not at.is_parked()
        at.supervisor.park()
        await asyncio.sleep(10)
        at.engine.starts_fail = 1
        at.supervisor.unpark()
        await asyncio.sleep(40.5)
        assert not at.is_parked()

    play(scene)


def test_unpark_while_it_is_being_parked_starts_it_once_it_is() -> None:
    async def scene(at: Scene) -> None:
        at.engine.stop_takes_seconds = 3.0
        await asyncio.sleep(50)
        at.supervisor.park()
        await asyncio.sleep(1)
        at.supervisor.unpark()
        await asyncio.sleep(60)
        assert at.kinds == [(40.0, WorkerReady), (53.0, WorkerParked), (93.0, WorkerReady)]

    play(scene)


def test_park_and_unpark_in_one_breath_are_both_carried_out() -> None:
    async def scene(at: Scene) -> None:
        await asyncio.sleep(50)
        at.supervisor.park()
        at.supervisor.unpark()
        await asyncio.sleep(60)
        assert at.kinds == [(40.0, WorkerReady), (50.0, WorkerParked), (90.0, WorkerReady)]
        at.supervisor.park()
        at.supervisor.unpark()
        at.supervisor.park()
        await asyncio.sleep(60)
        assert at.kinds[3:] == [(110.0, WorkerParked)]
        at.supervisor.unpark()
        at.supervisor.park()
        await asyncio.sleep(60)
        assert at.kinds[4:] == [(170.0, WorkerParked)], "whoever said park waits to hear of it"

    play(scene)


def test_park_while_it_starts_cuts_the_start_short() -> None:
    async def scene(at: Scene) -> None:
        await asyncio.sleep(10)
        at.supervisor.park()
        await asyncio.sleep(60)
        assert at.told == [(10.0, WorkerParked("w"))]
        assert at.engine.running == 0
        at.supervisor.unpark()
        await asyncio.sleep(60)
        assert at.kinds[1:] == [(110.0, WorkerReady)]

    play(scene)


def test_park_before_the_first_start_and_while_parked() -> None:
    async def scene(at: Scene) -> None:
        at.supervisor.park()
        await asyncio.sleep(60)
        at.supervisor.park()
        await asyncio.sleep(60)
        assert at.told == [(0.0, WorkerParked("w"))]

    play(scene)


def test_park_while_it_backs_off_ends_the_wait() -> None:
    async def scene(at: Scene) -> None:
        await asyncio.sleep(50)
        at.engine.crash()
        await asyncio.sleep(0.5)
        assert at.is_in(WorkerState.BACKING_OFF)
        at.supervisor.park()
        await asyncio.sleep(60)
        assert at.kinds == [(40.0, WorkerReady), (50.0, WorkerLost), (50.5, WorkerParked)]
        assert at.supervisor.restarts == 0

    play(scene)


def test_a_crash_while_it_is_being_parked_is_no_loss() -> None:
    async def scene(at: Scene) -> None:
        at.engine.stop_takes_seconds = 3.0
        await asyncio.sleep(50)
        at.supervisor.park()
        at.engine.crash()
        await asyncio.sleep(60)
        assert at.kinds == [(40.0, WorkerReady), (53.0, WorkerParked)]

    play(scene)


def test_unpark_of_a_worker_that_runs_does_nothing() -> None:
    async def scene(at: Scene) -> None:
        await asyncio.sleep(50)
        at.supervisor.unpark()
        await asyncio.sleep(60)
        assert at.kinds == [(40.0, WorkerReady)]

    play(scene)


def test_a_start_that_fails_after_parking_is_told_and_tried_again() -> None:
    async def scene(at: Scene) -> None:
        await asyncio.sleep(50)
        at.supervisor.park()
        await asyncio.sleep(50)
        at.engine.starts_fail = 2
        at.supervisor.unpark()
        await asyncio.sleep(300)
        lost = WorkerLost("w", "it did not start: out of memory", returns_in_seconds=None)
        assert at.told[2:4] == [(140.0, lost), (181.0, lost)], "after pauses of one second and two"
        assert at.kinds[4:] == [(223.0, WorkerReady)]
        assert at.supervisor.restarts == 2

    play(scene)


def test_the_very_first_start_that_fails_ends_the_supervision() -> None:
    async def first() -> None:
        engine = Engine()
        engine.starts_fail = 1
        await Scene(engine).task

    with pytest.raises(EngineStartError):
        run_in_virtual_time(first())


def test_a_first_start_after_parking_that_fails_does_not() -> None:
    async def scene(at: Scene) -> None:
        at.engine.starts_fail = 1
        at.supervisor.park()
        at.supervisor.unpark()
        await asyncio.sleep(100)
        assert at.kinds == [(0.0, WorkerParked), (40.0, WorkerLost), (81.0, WorkerReady)]

    play(scene)


def test_a_lost_worker_says_when_it_is_expected_back_and_pauses_grow_until_it_is_stable() -> None:
    async def scene(at: Scene) -> None:
        for pause_seconds in (1.0, 2.0, 4.0):
            await asyncio.sleep(START_SECONDS + 10)
            at.engine.crash()
            await asyncio.sleep(0)
            await asyncio.sleep(pause_seconds)
            assert at.last() == WorkerLost("w", "exit code 137", returns_in_seconds=pause_seconds + 40.0)
        await asyncio.sleep(START_SECONDS + 61)
        at.engine.crash()
        await asyncio.sleep(0.5)
        assert at.last() == WorkerLost("w", "exit code 137", returns_in_seconds=41.0)

    play(scene)


def test_a_hung_engine_is_lost_killed_without_grace_and_started_again() -> None:
    async def scene(at: Scene) -> None:
        await asyncio.sleep(500)
        at.supervisor.hang("no progress for 60 s")
        assert at.kinds[1:] == [(500.0, WorkerLost)], "before anything breaks off"
        await asyncio.sleep(0.5)
        assert at.told[1:] == [(500.0, WorkerLost("w", "no progress for 60 s", returns_in_seconds=41.0))]
        assert at.is_in(WorkerState.BACKING_OFF)
        assert at.engine.graces_seconds == [0.0]
        await asyncio.sleep(100)
        assert at.kinds[2:] == [(541.0, WorkerReady)]
        assert at.supervisor.restarts == 1
        at.supervisor.hang("again")
        await asyncio.sleep(0.5)
        assert at.last() == WorkerLost("w", "again", returns_in_seconds=42.0), "a hang does not make it stable"

    play(scene)


def test_a_hang_is_heard_only_of_a_ready_worker() -> None:
    async def scene(at: Scene) -> None:
        at.supervisor.hang("early")
        await asyncio.sleep(50)
        at.supervisor.park()
        await asyncio.sleep(1)
        at.supervisor.hang("parked")
        at.supervisor.unpark()
        await asyncio.sleep(100)
        assert at.kinds == [(40.0, WorkerReady), (50.0, WorkerParked), (91.0, WorkerReady)]

    play(scene)


def test_a_hung_engine_that_was_to_be_parked_is_parked() -> None:
    async def scene(at: Scene) -> None:
        await asyncio.sleep(50)
        at.supervisor.hang("silence")
        at.supervisor.park()
        await asyncio.sleep(100)
        assert at.kinds == [(40.0, WorkerReady), (50.0, WorkerLost), (50.0, WorkerParked)]
        assert at.engine.graces_seconds[0] == 0.0

    play(scene)


def test_a_start_that_is_stuck_is_given_up_and_tried_again() -> None:
    async def scene(at: Scene) -> None:
        await asyncio.sleep(50)
        at.engine.start_takes_seconds = 1e6
        at.supervisor.park()
        at.supervisor.unpark()
        await asyncio.sleep(601)
        assert at.told[2:] == [(650.0, WorkerLost("w", "it did not start: w was not ready after 600 s"))]
        at.engine.start_takes_seconds = START_SECONDS
        await asyncio.sleep(100)
        assert at.kinds[3:] == [(691.0, WorkerReady)]

    play(scene)


def test_a_first_start_may_take_its_time() -> None:
    async def scene(at: Scene) -> None:
        at.engine.start_takes_seconds = 5000.0
        await asyncio.sleep(5001)
        assert at.kinds == [(5000.0, WorkerReady)]

    play(scene)
