"""How many workers an Autoscaler wants, look by look and under whole loads."""

from __future__ import annotations

import itertools
import math
from typing import Any

import attrs
import pytest

from jobq_server import Autoscaler, simulate
from jobq_server.autoscaling import Cause, Point
from jobq_server.autoscaling.decide import Decision, Level, Load, State, decide

OPTIONS = Autoscaler(min=2, max=16)


def look(state: State, at: float, **seen: Any) -> Decision:
    """Decide once. busy: all workers, unless another number is given."""
    return decide(OPTIONS, state, Load(at=at, **{"busy": state.workers, **seen}))


def full(workers: int, *, since: float = 0.0, **more: Any) -> State:
    """Return the state of workers that are all busy since then."""
    return State(workers=workers, changed_at=since, full_since=since, **more)


def test_a_free_worker_is_never_joined_by_another() -> None:
    decision = look(full(8), 10.0, busy=5, waiting=1000, oldest=500.0)
    assert (decision.cause, decision.workers) == (Cause.STEADY, 8)


def test_workers_between_two_jobs_count_as_busy() -> None:
    assert look(full(8), 10.0, busy=6, waiting=1000, oldest=500.0).workers == 16


@pytest.mark.parametrize(
    ("waiting", "ended", "wanted"),
    [
        (40, 80, 4),  # 8 a second: 5 s, as long as they may wait
        (41, 80, 5),
        (50, 80, 5),
        (56, 80, 6),
        (10_000, 80, 8),  # twice as many at most
    ],
)
def test_it_adds_workers_by_how_long_the_last_job_will_wait(waiting: int, ended: int, wanted: int) -> None:
    assert look(full(4), 10.0, waiting=waiting, ended=ended, oldest=1.0).workers == wanted


def test_without_an_ended_job_it_goes_by_the_age_of_the_oldest() -> None:
    assert look(full(4), 10.0, waiting=100, oldest=4.9).workers == 4
    decision = look(full(4), 10.0, waiting=100, oldest=5.1)
    assert (decision.workers, decision.cause) == (8, Cause.WAITING)
    assert decision.reason == "100 jobs wait, the oldest for 5.1 s (target 5 s)"


def test_it_adds_no_more_workers_than_jobs_wait() -> None:
    assert look(full(4), 10.0, waiting=1, oldest=60.0).workers == 5


def test_workers_added_last_get_time_before_the_next_are_added() -> None:
    state = look(full(4), 10.0, waiting=100, oldest=6.0).state
    assert look(state, 11.0, waiting=100, oldest=7.0).cause is Cause.MEASURING
    assert look(state, 15.0, waiting=100, oldest=11.0).workers == 16


def test_a_backlog_that_drains_in_time_needs_no_more_workers_however_old_it_is() -> None:
    state = full(4, oldest=31.0)
    assert look(state, 10.0, waiting=20, ended=80, oldest=30.0).workers == 4


def test_jobs_that_were_added_together_drain_although_the_oldest_grows_older() -> None:
    state = full(4, oldest=30.0, waiting=28)
    assert look(state, 10.0, waiting=20, ended=80, oldest=31.0).workers == 4


def test_jobs_that_grow_old_behind_others_get_one_worker_at_a_time() -> None:
    state = full(4, oldest=30.0, waiting=20)
    assert look(state, 10.0, waiting=20, ended=80, oldest=31.0).workers == 5


def test_it_says_so_when_there_are_as_many_workers_as_may_be() -> None:
    decision = look(full(16), 100.0, waiting=1000, oldest=60.0)
    assert (decision.workers, decision.cause) == (16, Cause.AT_MAX)
    assert decision.reason.endswith("; 16 is the maximum")


def test_it_removes_at_most_half_of_the_workers_after_each_cool_down() -> None:
    state, workers = State(workers=16, changed_at=0.0), []
    for at in range(1, 300):
        state = look(state, float(at), busy=1).state
        workers.append(state.workers)
    changes = [at for at, (one, two) in enumerate(itertools.pairwise(workers), start=2) if one != two]
    assert list(dict.fromkeys(workers)) == [16, 8, 4, 2]
    assert changes == [60, 120, 180]


def test_it_keeps_the_workers_that_were_busy_at_some_time_of_the_cool_down() -> None:
    state = State(workers=16, changed_at=0.0)
    for at, busy in ((1.0, 1), (30.0, 9), (59.0, 2), (60.0, 1)):
        state = look(state, at, busy=busy).state
    assert state.workers == 12  # nine, with room
    assert look(state, 90.0, busy=1).workers == 12
    assert look(state, 120.0, busy=1).workers == 6


def test_it_goes_back_when_more_workers_do_not_make_more_jobs_end() -> None:
    reference = Level(workers=4, ended=200, seconds=20.0)
    state = full(8, since=100.0, reference=reference)
    decision = look(state, 120.0, ended=200, waiting=500, oldest=50.0)
    assert (decision.workers, decision.cause) == (4, Cause.NO_GAIN)
    assert decision.reason == ("8 workers end 10 jobs a second, 4 ended 10: more do not help; next try in 60 s")
    full_again = look(decision.state, 121.0, waiting=500, oldest=51.0, ended=210).state
    held = look(full_again, 175.0, waiting=900, oldest=90.0)
    assert (held.workers, held.cause) == (4, Cause.HELD)
    again = look(held.state, 181.0, ended=800, waiting=900, oldest=90.0)
    assert (again.workers, again.cause) == (8, Cause.WAITING)
    assert look(again.state, 201.0, ended=1000, waiting=900, oldest=99.0).state.held_until == 201.0 + 120.0


def test_a_standstill_of_what_the_jobs_use_brings_the_workers_back_too() -> None:
    reference = Level(workers=4, ended=100, seconds=10.0)
    state = full(16, since=100.0, reference=reference)
    assert look(state, 102.0, waiting=500, oldest=50.0).cause is Cause.NO_GAIN


def test_at_the_maximum_it_measures_whether_fewer_workers_do_as_well() -> None:
    """As where the load was at the limit from the start, so that nothing tells what fewer workers achieve."""
    halved = look(full(16), 20.0, ended=200, waiting=500, oldest=50.0)
    assert (halved.workers, halved.cause) == (8, Cause.MEASURING)
    removed = look(halved.state, 21.0, busy=9, ended=210, waiting=500, oldest=51.0)
    assert removed.state.level(Load(at=21.0, busy=8, ended=210)).ended == 0  # a removed worker ran its last job
    open_yet = look(removed.state, 31.0, ended=310, waiting=600, oldest=60.0)
    assert (open_yet.workers, open_yet.cause) == (8, Cause.MEASURING)
    unsure = look(open_yet.state, 41.0, ended=410, waiting=600, oldest=60.0)  # 10 a second, as 16 did
    assert unsure.cause is Cause.MEASURING, "200 jobs each do not tell 10 a second from 8.3"
    quartered = look(unsure.state, 61.0, ended=610, waiting=600, oldest=60.0)
    assert quartered.workers == 4
    full_again = look(quartered.state, 62.0, ended=620, waiting=600, oldest=60.0)
    back = look(full_again.state, 92.0, ended=820, waiting=900, oldest=90.0)  # 6.7 a second
    assert (back.workers, back.cause) == (8, Cause.WAITING)
    full_again = look(back.state, 93.0, ended=827, waiting=900, oldest=90.0)
    held = look(full_again.state, 140.0, ended=1300, waiting=900, oldest=90.0)
    assert (held.workers, held.cause) == (8, Cause.HELD)


def test_at_the_maximum_workers_that_are_worth_it_stay() -> None:
    halved = look(full(16), 20.0, ended=200, waiting=500, oldest=50.0)
    full_again = look(halved.state, 21.0, ended=210, waiting=500, oldest=51.0)
    back = look(full_again.state, 61.0, ended=410, waiting=900, oldest=90.0)
    assert (back.workers, back.cause) == (16, Cause.WAITING)
    full_again = look(back.state, 62.0, ended=420, waiting=900, oldest=90.0)
    assert look(full_again.state, 100.0, ended=800, waiting=900, oldest=90.0).cause is Cause.AT_MAX


@pytest.mark.parametrize(
    ("reference", "level", "helps"),
    [
        (Level(workers=4, ended=100, seconds=10), Level(workers=8, ended=200, seconds=10), True),
        (Level(workers=4, ended=200, seconds=20), Level(workers=8, ended=200, seconds=20), False),
        (Level(workers=4, ended=100, seconds=10), Level(workers=8, ended=140, seconds=10), None),  # between the two
        (Level(workers=4, ended=6, seconds=10), Level(workers=8, ended=6, seconds=14), None),  # too few to tell
        (Level(workers=4, ended=40, seconds=100), Level(workers=8, ended=8, seconds=19), None),  # runs take 10 s
        (Level(workers=2, ended=20, seconds=10), Level(workers=32, ended=20, seconds=10), False),
    ],
)
def test_whether_workers_help_is_open_until_the_counts_tell(reference: Level, level: Level, helps: bool | None) -> None:
    assert level.helps(reference) is helps


# Whole loads


def changes(points: list[Point]) -> list[int]:
    """Return the changes of the number of workers."""
    return [two.workers - one.workers for one, two in itertools.pairwise(points) if one.workers != two.workers]


def turns(points: list[Point]) -> int:
    """Return how often the number of workers began to fall after it rose, or to rise after it fell."""
    signs = [math.copysign(1, change) for change in changes(points)]
    return sum(one != two for one, two in itertools.pairwise(signs))


def after(points: list[Point], at: float) -> list[Point]:
    """Return the points after a time."""
    return [point for point in points if point.at > at]


AUTOSCALER = Autoscaler(max=50)
SEEDS = range(3)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_steady_load_gets_the_workers_that_it_needs_and_keeps_them(seed: int) -> None:
    points = simulate(AUTOSCALER, arrivals=lambda _: 20, run_seconds=0.5, duration=1800, seed=seed)
    settled = after(points, 60)
    assert turns(settled) <= 2
    assert len(changes(settled)) <= 4
    assert 10 < points[-1].workers <= 25
    assert max(point.oldest for point in settled) < 2 * AUTOSCALER.target_wait


@pytest.mark.parametrize("seed", SEEDS)
def test_a_daily_wave_is_followed_up_and_down_once(seed: int) -> None:
    day = 3600.0  # a short one

    def wave(at: float) -> float:
        return 10 * (1 - math.cos(2 * math.pi * at / day)) if at < day else 0.0

    points = simulate(AUTOSCALER, arrivals=wave, run_seconds=1.0, duration=day + 300, seed=seed)
    peak = max(points, key=lambda point: point.workers)
    assert 20 <= peak.workers <= 48  # a second in which few jobs end may double a number that is enough
    assert turns(points) <= 3
    assert max(point.oldest for point in points) < 2 * AUTOSCALER.target_wait
    assert points[-1].workers == AUTOSCALER.min


@pytest.mark.parametrize("seed", SEEDS)
def test_a_burst_of_20_times_the_load_is_worked_off_within_seconds(seed: int) -> None:
    points = simulate(
        AUTOSCALER,
        arrivals=lambda at: 40 if 600 <= at < 900 else 2 if at < 1500 else 0,
        run_seconds=0.8,
        duration=2400,
        seed=seed,
    )
    assert max(point.workers for point in points if point.at < 600) <= 6
    assert max(point.oldest for point in points) < 3 * AUTOSCALER.target_wait
    assert max(point.oldest for point in points if 630 <= point.at < 900) < 2 * AUTOSCALER.target_wait
    assert turns(points) <= 3
    assert points[-1].workers == AUTOSCALER.min


@pytest.mark.parametrize("seed", SEEDS)
def test_long_jobs_get_a_worker_each_soon_after_the_target(seed: int) -> None:
    points = simulate(AUTOSCALER, arrivals=lambda at: 1 if at < 30 else 0, run_seconds=300.0, duration=3600, seed=seed)
    assert max(point.oldest for point in points) < 4 * AUTOSCALER.target_wait
    assert turns(points) <= 1
    assert points[-1].workers == AUTOSCALER.min


@pytest.mark.parametrize("seed", SEEDS)
def test_a_service_at_its_limit_is_not_met_with_more_and_more_workers(seed: int) -> None:
    points = simulate(
        AUTOSCALER, arrivals=lambda at: 20 if at < 1800 else 0, run_seconds=0.5, capacity=4, duration=3600, seed=seed
    )
    late = [point for point in after(points, 300) if point.waiting]
    assert sum(point.workers for point in late) / len(late) < 10
    assert len(changes(after(points, 300))) < 30
    assert late[-1].ended / late[-1].at > 7  # as many as the service can do
    busy = after(points, 60)
    assert {Cause.NO_GAIN, Cause.HELD} <= {point.cause for point in busy}


SEVERAL = Autoscaler(max=50, max_processes=8)


@pytest.mark.parametrize("seed", SEEDS)
def test_jobs_that_compute_get_processes_by_the_wave_of_a_day_and_few_workers_in_each(seed: int) -> None:
    day = 1800.0

    def wave(at: float) -> float:
        return 5 * (1 - math.cos(2 * math.pi * at / day)) if at < day else 0.0

    points = simulate(SEVERAL, arrivals=wave, run_seconds=0.4, duration=day + 360, processor=1.0, seed=seed)
    assert 4 <= max(point.processes for point in points) <= 8
    assert max(point.oldest for point in points) < 4 * SEVERAL.target_wait
    assert max(point.workers / point.processes for point in points) <= 4
    assert (points[-1].processes, points[-1].workers) == (1, 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_jobs_that_wait_get_workers_in_one_process(seed: int) -> None:
    points = simulate(SEVERAL, arrivals=lambda _: 20, run_seconds=0.5, duration=600, processor=0.02, seed=seed)
    assert {point.processes for point in points} == {1}
    assert 10 < points[-1].workers <= 25


@pytest.mark.parametrize("seed", SEEDS)
def test_a_machine_of_two_processors_does_not_get_more_and_more_processes(seed: int) -> None:
    points = simulate(
        SEVERAL, arrivals=lambda _: 20, run_seconds=0.4, duration=900, processor=1.0, processors=2, seed=seed
    )
    late = after(points, 300)
    assert sum(point.processes for point in late) / len(late) < 5
    assert late[-1].ended / late[-1].at > 4  # of 5 that two processors can do
    assert max(point.workers / point.processes for point in points) <= 2


def test_the_same_seed_gives_the_same_curve() -> None:
    one, two = (simulate(AUTOSCALER, arrivals=lambda _: 3, run_seconds=1, duration=60, seed=7) for _ in range(2))
    assert one == two


def test_a_decision_does_not_change_the_state_that_it_was_made_from() -> None:
    state = full(4)
    before = attrs.asdict(state)
    look(state, 10.0, waiting=100, oldest=6.0)
    assert attrs.asdict(state) == before
