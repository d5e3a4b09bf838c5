"""What went on in the queues, from statistics and samples."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jobq_core.activity import ActivityPoint, activity, percentiles
from jobq_core.states import JobState
from jobq_core.storage import DepthPoint, StatisticsRecord, bucket_of

START = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def ended(minute: int, jobs: int, state: JobState = JobState.COMPLETED, queue: str = "mail") -> StatisticsRecord:
    return StatisticsRecord(
        minute=at(minute),
        queue=queue,
        kind="send",
        state=state,
        jobs=jobs,
        waiting_seconds=jobs * 0.1,
        running_seconds=jobs * 1.0,
        waiting={bucket_of(0.1): jobs},
        running={bucket_of(1.0): jobs},
    )


def depth(minute: int, jobs: int, state: JobState = JobState.PENDING, queue: str = "mail") -> DepthPoint:
    return DepthPoint(at=at(minute), queue=queue, state=state, jobs=jobs, oldest_seconds=7.0 if jobs else None)


def points(
    statistics: list[StatisticsRecord], depths: list[DepthPoint], minutes: int = 2
) -> dict[str, list[ActivityPoint]]:
    return activity(statistics, depths, since=at(0), until=at(minutes), step=60)


def test_what_came_in_is_the_change_of_the_depth_and_what_ended() -> None:
    [first, second] = points([ended(0, 5), ended(1, 30)], [depth(-1, 10), depth(0, 15), depth(1, 0)])["mail"]
    assert (first.added, first.completed, first.unfinished, first.pending) == (10, 5, 15, 15)
    assert (second.added, second.completed, second.unfinished) == (15, 30, 0)


def test_all_unfinished_states_count_and_the_oldest_is_that_of_the_pending_ones() -> None:
    sampled = [depth(-1, 1), depth(0, 2), depth(0, 3, JobState.SCHEDULED), depth(0, 4, JobState.PROCESSING)]
    [point] = points([], sampled, minutes=1)["mail"]
    assert (point.unfinished, point.pending, point.added, point.oldest_seconds) == (9, 2, 8, 7.0)


def test_a_step_without_a_sample_says_nothing_of_what_came_in() -> None:
    [first, second] = points([ended(0, 5)], [depth(1, 3)])["mail"]
    assert (first.added, first.unfinished, first.completed) == (None, None, 5)
    assert (second.added, second.unfinished) == (None, 3)


def test_a_queue_without_jobs_is_empty_where_another_queue_was_sampled() -> None:
    other = [depth(minute, 1, queue="other") for minute in (-1, 0, 1)]
    [first, second] = points([ended(1, 4)], other)["mail"]
    assert (first.added, first.unfinished) == (0, 0)
    assert (second.added, second.unfinished) == (4, 0)


def test_a_sample_from_before_the_end_of_a_step_never_makes_what_came_in_negative() -> None:
    [point] = points([], [depth(-1, 9), depth(0, 2)], minutes=1)["mail"]
    assert point.added == 0


def test_endings_are_told_apart_and_each_step_has_a_point() -> None:
    found = points([ended(0, 2), ended(0, 1, JobState.FAILED), ended(2, 3, JobState.ABORTED)], [], minutes=3)["mail"]
    assert [(p.at, p.completed, p.failed, p.aborted) for p in found] == [
        (at(0), 2, 1, 0),
        (at(1), 0, 0, 0),
        (at(2), 0, 0, 3),
    ]


def test_percentiles_are_those_of_all_histograms_together() -> None:
    shares = percentiles([{bucket_of(0.01): 94}, {bucket_of(1.0): 5}, {bucket_of(60.0): 1}])
    assert shares.p50 == pytest.approx(0.01, rel=0.5)
    assert shares.p95 == pytest.approx(1.0, rel=0.5)
    assert shares.p99 == pytest.approx(1.0, rel=0.5)
    assert percentiles([]).p50 is None


def test_an_empty_storage_has_no_queues() -> None:
    assert points([], []) == {}
