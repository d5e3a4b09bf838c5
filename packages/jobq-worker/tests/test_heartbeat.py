"""When a heartbeat is due, and when it is withheld."""

from __future__ import annotations

import pytest

from jobq_worker.liveness.heartbeat import BeatSchedule


class Beats:
    """A schedule by a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.schedule = BeatSchedule(lambda: self.now, interval=10.0, retry=1.5, unanswered=1.0)

    def until(self, end: float, *, blocked_at: float | None = None) -> list[float]:
        """Let time pass; return when beats were due. Each of them succeeds."""
        due = []
        while self.now < end:
            self.now += 0.5
            if self.schedule.is_due(0.0 if blocked_at is None else max(self.now - blocked_at, 0.0)):
                due.append(self.now)
                self.schedule.succeeded()
        return due


@pytest.fixture
def beats() -> Beats:
    return Beats()


def test_it_beats_once_an_interval_while_the_loop_answers(beats: Beats) -> None:
    assert beats.until(35.0) == [10.0, 20.0, 30.0]


@pytest.mark.parametrize("blocked_at", [2.0, 9.0, 12.5])
def test_a_blocked_loop_gets_one_more_beat_and_the_lease_then_runs_out(beats: Beats, blocked_at: float) -> None:
    """So the lease ends `lost_after` seconds after the loop was blocked, wherever that was in the interval."""
    assert beats.until(300.0, blocked_at=blocked_at)[-1] == blocked_at + 1.0


def test_it_beats_at_once_when_the_loop_answers_again(beats: Beats) -> None:
    beats.until(40.0, blocked_at=2.0)
    assert beats.until(55.0) == [40.5, 50.5]


def test_a_short_blockage_changes_nothing(beats: Beats) -> None:
    beats.until(4.0)
    assert not beats.schedule.is_due(0.9)
    assert beats.until(20.0) == [10.0, 20.0]


def test_a_last_beat_that_fails_is_repeated(beats: Beats) -> None:
    beats.now = 5.0
    assert beats.schedule.is_due(1.0)
    beats.schedule.failed()
    assert not beats.schedule.is_due(1.5)
    beats.now = 6.5
    assert beats.schedule.is_due(2.5)
    beats.schedule.succeeded()
    beats.now = 60.0
    assert not beats.schedule.is_due(55.0)


def test_the_loop_is_asked_twice_a_second_and_more_often_for_a_short_lease(beats: Beats) -> None:
    assert beats.schedule.pause() == 0.5
    assert BeatSchedule(lambda: 0.0, interval=10.0, retry=1.0, unanswered=0.25).pause() == 0.125
    assert BeatSchedule(lambda: 0.0, interval=0.1, retry=1.0, unanswered=1.0).pause() == 0.1


def test_a_beat_that_is_asked_for_is_due_at_once(beats: Beats) -> None:
    beats.now = 3.0
    beats.schedule.beat_now()
    assert beats.schedule.pause() == 0.0
    assert beats.schedule.is_due(0.0)
