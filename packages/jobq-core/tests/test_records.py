from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobq_core.events import JobCompleted
from jobq_core.ids import new_id
from jobq_core.records import JobRecord, WorkerRecord, WorkerStats
from jobq_core.states import JobState, StopRequest
from jobq_core.testing import worker_info

COUNT = st.integers(0, 10**9)
STATS = st.builds(
    WorkerStats,
    completed=COUNT,
    failed=COUNT,
    retried=COUNT,
    aborted=COUNT,
    disabled=COUNT,
    released=COUNT,
    running=COUNT,
    # Whole numbers, so that sums are exact.
    busy_seconds=COUNT.map(float),
    unknown_kinds=st.dictionaries(st.sampled_from("abc"), COUNT),
)


def record(**options: Any) -> JobRecord:
    defaults: dict[str, Any] = {
        "id": new_id(),
        "kind": "noop",
        "queue": "default",
        "state": JobState.PENDING,
        "priority": 0,
        "arguments_json": b'{"number":7}',
        "created_at": datetime.now(UTC),
    }
    return JobRecord(**defaults | options)


def test_arguments_and_result_are_decoded() -> None:
    assert record().arguments == {"number": 7}
    assert record(result_json=b'{"a":[1]}').result == {"a": [1]}


@pytest.mark.parametrize("result_json", [None, b"null"])
def test_a_missing_result_and_a_result_of_none_are_both_none(result_json: bytes | None) -> None:
    assert record(result_json=result_json).result is None


def test_arguments_and_result_are_not_shown() -> None:
    shown = repr(record(arguments_json=b'{"password":"hunter2"}', result_json=b'"hunter3"'))
    assert "hunter" not in shown
    completed = JobCompleted(job_id=new_id(), kind="login", queue="mail", attempt=1, result_json=b'"hunter3"')
    assert "hunter" not in repr(completed)
    assert repr(completed).endswith(", kind='login', queue='mail', attempt=1, worker=None)")


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("request_", [None, *StopRequest])
def test_only_a_running_job_that_was_asked_to_abort_is_aborting(state: JobState, request_: StopRequest | None) -> None:
    expected = state is JobState.PROCESSING and request_ is StopRequest.ABORT
    assert record(state=state, stop_request=request_).aborting is expected


@pytest.mark.parametrize("state", JobState)
def test_a_record_knows_whether_the_job_is_finished(state: JobState) -> None:
    assert record(state=state).finished is (state in (JobState.COMPLETED, JobState.FAILED, JobState.ABORTED))


def test_all_ended_runs_but_those_handed_back_are_finished() -> None:
    stats = WorkerStats(completed=1, failed=2, retried=4, aborted=8, disabled=16, released=32, running=64)
    assert stats.finished == 31


def test_the_average_is_over_finished_runs() -> None:
    assert WorkerStats().average_seconds == 0
    assert WorkerStats(completed=3, failed=1, released=5, busy_seconds=10).average_seconds == 2.5


def test_averages_of_several_workers_are_weighted_by_their_jobs() -> None:
    quick = WorkerStats(completed=9, busy_seconds=9)
    slow = WorkerStats(completed=1, busy_seconds=11)
    assert (quick + slow).average_seconds == 2


@given(STATS, STATS, STATS)
def test_statistics_add_up_in_any_order(one: WorkerStats, two: WorkerStats, three: WorkerStats) -> None:
    assert (one + two) + three == one + (two + three)
    assert one + two == two + one
    assert one + WorkerStats() == one
    assert (one + two).finished == one.finished + two.finished
    assert (one + two).running == one.running + two.running
    assert (one + two).released == one.released + two.released


@pytest.mark.parametrize(("said", "slots"), [(None, 4), (0, 0), (9, 9)])
def test_the_last_heartbeat_says_how_many_slots_a_worker_has(said: int | None, slots: int) -> None:
    now = datetime.now(UTC)
    record = WorkerRecord(
        info=worker_info(concurrency=4),
        started_at=now,
        beat_at=now,
        expires_at=now + timedelta(seconds=30),
        stats=WorkerStats(slots=said),
    )
    assert record.slots == slots


def test_adding_does_not_change_the_summands() -> None:
    one, two = WorkerStats(unknown_kinds={"a": 1}), WorkerStats(unknown_kinds={"a": 2, "b": 3})
    assert (one + two).unknown_kinds == {"a": 3, "b": 3}
    assert (one.unknown_kinds, two.unknown_kinds) == ({"a": 1}, {"a": 2, "b": 3})
