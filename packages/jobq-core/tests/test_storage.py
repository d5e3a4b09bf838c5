from __future__ import annotations

from datetime import timedelta

import pytest

from jobq_core.ids import new_id
from jobq_core.states import JobState
from jobq_core.storage import Change, ClaimedJob, JobFilter, Retention, queue_topic


def test_each_queue_has_its_own_topic() -> None:
    assert queue_topic("mail") == "queue:mail"
    assert queue_topic("finished") != "finished"


@pytest.mark.parametrize(
    ("before", "after", "asked", "changed"),
    [
        (JobState.PENDING, JobState.ABORTED, False, True),
        (JobState.PENDING, None, False, True),
        (JobState.PROCESSING, JobState.PROCESSING, True, True),
        (JobState.PROCESSING, JobState.PROCESSING, False, False),
        (JobState.FAILED, JobState.FAILED, False, False),
        (None, None, False, False),
    ],
)
def test_a_change_knows_whether_anything_happened_or_will(
    before: JobState | None, after: JobState | None, asked: bool, changed: bool
) -> None:
    assert Change(new_id(), before, after, asked).changed is changed


def test_a_filter_accepts_any_collection() -> None:
    given = JobFilter(states=[JobState.FAILED, JobState.FAILED], kinds=["a", "b"], tags={"t": 1})
    assert given == JobFilter(states={JobState.FAILED}, kinds=("a", "b"), tags=("t",))
    assert hash(given) == hash(JobFilter(states={JobState.FAILED}, kinds=("a", "b"), tags=("t",)))


def test_an_empty_filter_has_no_conditions() -> None:
    assert JobFilter() == JobFilter(queue=None, states=(), kinds=(), tags=(), run_id=None)


def test_finished_jobs_are_kept_for_a_day_and_failed_ones_for_two_weeks() -> None:
    assert Retention() == Retention(completed=86_400, failed=14 * 86_400, aborted=86_400)
    assert Retention() == Retention(completed=timedelta(days=1), failed=timedelta(days=14), aborted=timedelta(days=1))


@pytest.mark.parametrize(
    ("attempt", "max_attempts", "must"), [(1, 10, False), (1, 1, True), (2, 10, True), (10, 10, True), (2, 1, True)]
)
def test_all_runs_but_the_first_of_several_need_a_start_mark(attempt: int, max_attempts: int, must: bool) -> None:
    job = ClaimedJob(new_id(), 1, "default", "noop", b"{}", attempt, max_attempts)
    assert job.needs_start_mark is must
