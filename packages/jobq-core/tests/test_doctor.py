"""What is wrong: each illness of the queue is found and named, and a healthy queue has none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from jobq_core.doctor import Facts, examine, judge
from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import JobSummary, WorkerInfo, WorkerRecord, WorkerStats
from jobq_core.states import JobState
from jobq_core.storage import (
    UNFIT_ARGUMENTS,
    UNKNOWN_KIND,
    Action,
    Depth,
    JobFilter,
    Operation,
    OperationState,
    QueueRecord,
    Severity,
    StatisticsRecord,
)

NOW = datetime(2026, 11, 30, 3, 0, tzinfo=UTC)
E, W = Severity.ERROR, Severity.WARNING


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def worker(
    name: str = "w1", *, expires_in: float = 20.0, versions: dict[str, str] | None = None, **stats: Any
) -> WorkerRecord:
    info = WorkerInfo(
        id=UUID(int=hash(name) % 2**64),
        name=name,
        host="host",
        pid=1,
        queues=("mail",),
        kinds=("send",),
        concurrency=stats.pop("concurrency", 10),
        lost_after=30.0,
        versions=versions or {},
    )
    return WorkerRecord(
        info=info, started_at=ago(3600), beat_at=ago(1), expires_at=ago(-expires_in), stats=WorkerStats(**stats)
    )


def depth(state: JobState = JobState.PENDING, *, jobs: int = 5, age: float = 1.0, queue: str = "mail") -> Depth:
    return Depth(queue=queue, state=state, jobs=jobs, oldest=ago(age), at=NOW)


def summary(state: JobState, **fields: Any) -> JobSummary:
    return JobSummary(
        id=UUID(int=1), kind="send", queue="mail", state=state, priority=0, created_at=ago(3600), **fields
    )


def ended(state: JobState, jobs: int) -> StatisticsRecord:
    return StatisticsRecord(
        minute=NOW,
        queue="mail",
        kind="send",
        state=state,
        jobs=jobs,
        waiting_seconds=0,
        running_seconds=0,
        waiting={},
        running={},
    )


def operation(**fields: Any) -> Operation:
    return Operation(
        id=UUID(int=9),
        action=Action.RETRY,
        value=None,
        filter=JobFilter(),
        before=UUID(int=8),
        actor="kai@web1",
        created_at=ago(3600),
        **fields,
    )


HEALTHY = Facts(
    now=NOW,
    here=NOW,
    depths=[depth(), depth(JobState.PROCESSING, age=60)],
    workers=[worker(), worker("w2", running=10)],
    queues=[QueueRecord(name="mail"), QueueRecord(name="empty", paused_at=ago(9999))],
    statistics=[ended(JobState.COMPLETED, 50), ended(JobState.FAILED, 5)],
    operations=[operation(worked_at=ago(2)), operation(worked_at=ago(3600), state=OperationState.DONE)],
    blocked=[summary(JobState.BLOCKED, reason="gated")],
)

ILLNESSES: list[tuple[str, Severity, str, dict[str, Any]]] = [
    ("no-worker", E, "no live worker serves queue 'mail', where 5 jobs wait", {"workers": []}),
    (
        "no-worker",
        E,
        "no live worker serves queue 'mial', where 5 jobs wait; a worker serves 'mail'",
        {"depths": [depth(queue="mial")]},
    ),
    (
        "no-workers",
        E,
        "no worker is running: 13 jobs wait in 2 queues, the most in 'sms'",
        {"workers": [], "depths": [depth(), depth(queue="sms", jobs=8)]},
    ),
    ("no-worker", E, "queue 'mail'", {"workers": [worker(expires_in=-5)]}),
    (
        "too-few-slots",
        W,
        "5 jobs wait in queue 'mail', the oldest for 15 min, and all 10 slots of its workers are busy",
        {"depths": [depth(age=900)], "workers": [worker(running=10)]},
    ),
    (
        "slow-backlog",
        W,
        "and 7 of the 10 slots of its workers are free",
        {"depths": [depth(age=900)], "workers": [worker(running=3)]},
    ),
    ("no-slots", E, "its workers have no slots", {"depths": [depth(age=900)], "workers": [worker(concurrency=0)]}),
    ("long-running", W, "has been running for 3 days", {"depths": [depth(JobState.PROCESSING, age=3 * 86_400)]}),
    ("lost-worker", E, "worker 'w3' was lost 2 min ago", {"workers": [worker(), worker("w3", expires_in=-120)]}),
    ("loop-blocked", E, "has been blocked for 4.5 s", {"workers": [worker(loop_lag=4.5)]}),
    (
        "hung-handlers",
        E,
        "worker 'w1' has hung handlers, which run past their time limit: 2",
        {"workers": [worker(hung=2)]},
    ),
    ("deaf-worker", W, "receives no notifications", {"workers": [worker(hears=False)]}),
    (
        "versions-apart",
        W,
        "live workers run different versions of jobq-worker: 0.1.0 on 1, 0.2.0 on 1",
        {"workers": [worker(versions={"jobq-worker": "0.1.0"}), worker("w2", versions={"jobq-worker": "0.2.0"})]},
    ),
    (
        "unknown-kind",
        E,
        "2 jobs wait for a worker that knows the kind 'send'",
        {"blocked": [summary(JobState.BLOCKED, reason=UNKNOWN_KIND)] * 2},
    ),
    (
        "unfit-arguments",
        E,
        "1 job waits for a worker whose declaration of kind 'send' accepts the arguments",
        {"blocked": [summary(JobState.BLOCKED, reason=UNFIT_ARGUMENTS)]},
    ),
    (
        "not-promoted",
        E,
        "scheduled jobs have been due for more than 60 s: 1",
        {"overdue": 1},
    ),
    (
        "failing-kind",
        W,
        "8 of 10 jobs of kind 'send' in queue 'mail' failed in the last hour",
        {"statistics": [ended(JobState.COMPLETED, 2), ended(JobState.FAILED, 8)]},
    ),
    (
        "paused-queue",
        W,
        "queue 'mail' was paused by kai@web1 2 h ago; 5 jobs wait",
        {"queues": [QueueRecord(name="mail", paused_at=ago(7200), paused_by="kai@web1")]},
    ),
    ("operation-left", W, "has not advanced for 10 min", {"operations": [operation(worked_at=ago(600))]}),
    ("clock-skew", W, "the clock of this machine is 60 s ahead of the storage's", {"here": ago(-60)}),
    ("clock-skew", W, "the clock of this machine is 60 s behind the storage's", {"here": ago(60)}),
]


@pytest.mark.parametrize(("code", "severity", "words", "changes"), ILLNESSES, ids=range(len(ILLNESSES)))
def test_an_illness_is_found_and_named_with_its_remedy(
    code: str, severity: Severity, words: str, changes: dict[str, Any]
) -> None:
    [finding] = judge(replace(HEALTHY, **changes))
    assert (finding.code, finding.severity) == (code, severity)
    assert words in finding.message
    assert finding.remedy


def test_nothing_is_wrong_with_a_healthy_queue() -> None:
    assert judge(HEALTHY) == []


def test_failures_of_few_jobs_are_not_reported() -> None:
    assert judge(replace(HEALTHY, statistics=[ended(JobState.FAILED, 9)])) == []


def test_the_backlog_of_a_paused_queue_is_that_of_the_pause() -> None:
    paused = [QueueRecord(name="mail", paused_at=ago(7200))]
    assert [f.code for f in judge(replace(HEALTHY, depths=[depth(age=9000)], queues=paused))] == ["paused-queue"]


async def test_an_empty_storage_is_healthy() -> None:
    async with MemoryQueueStorage() as storage:
        assert await examine(storage) == []
