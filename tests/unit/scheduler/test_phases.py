"""Counts of workers by phase equal what looking at every worker would give."""

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.events import WorkerLost, WorkerReady
from scheduler.fleet import Fleet
from scheduler.phases import Phases, WorkerPhase

IDS = [f"w{number}" for number in range(4)]
MODELS = ["a", "b"]
MOVES = st.lists(st.tuples(st.sampled_from(IDS), st.none() | st.sampled_from(list(WorkerPhase))), max_size=40)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(IDS),
        st.sampled_from(["ready", "parking", "parked", "starting", "lost", "gone"]),
        st.sets(st.sampled_from(MODELS), min_size=1).map(frozenset),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(MOVES)
def test_they_behave_as_a_dictionary_of_phases(moves: list[tuple[str, WorkerPhase | None]]) -> None:
    phases, model = Phases(), dict[str, WorkerPhase]()
    for worker_id, phase in moves:
        phases.move(worker_id, phase)
        model.pop(worker_id, None)
        if phase is not None:
            model[worker_id] = phase
        for one in WorkerPhase:
            ids = sorted(worker_id for worker_id, known in model.items() if known is one)
            assert phases.count(one) == len(ids)
            assert phases.first(one, 10) == ids
            assert phases.first(one, 1) == ids[:1]
            assert phases.first(one, -1) == []


@settings(deadline=None, max_examples=200)
@given(EVENTS)
def test_a_lane_counts_its_workers_as_one_who_looks_at_each(events: list[tuple[str, str, frozenset[str]]]) -> None:
    fleet = Fleet(MODELS)
    for worker_id, what, models in events:
        happen(fleet, worker_id, what, models)
        for model in MODELS:
            lane = fleet.lane(model)
            assert lane is not None
            assert lane.awake_workers == sum(not worker.is_leaving for worker in lane.workers)
            expected = [one for one in fleet.records if one.worker_id in lane.expected_worker_ids]
            parked = sorted(one.worker_id for one in expected if one.phase is WorkerPhase.PARKED)
            assert [one.worker_id for one in fleet.parked_in(lane, 10)] == parked
            starting = sum(one.phase is WorkerPhase.STARTING for one in expected)
            assert lane.phases.count(WorkerPhase.STARTING) == starting


def happen(fleet: Fleet, worker_id: str, what: str, models: frozenset[str]) -> None:
    worker, record = fleet.worker(worker_id), fleet.record(worker_id)
    match what:
        case "ready":
            fleet.ready(WorkerReady(worker_id, models, 2, can_park=True), 0.0)
        case "parking" if worker is not None:
            fleet.parking(worker)
        case "parked":
            fleet.parked(worker_id)
        case "starting" if record is not None and record.phase is WorkerPhase.PARKED:
            fleet.starting(record, 0.0)
        case "lost" | "gone":
            fleet.lost(WorkerLost(worker_id, "killed", may_return=what == "lost"), 0.0)
