"""Why a job does not run, or how it ended: a sentence for each reason that there is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from jobq_core.job_audit import bulk_changes
from jobq_core.masking import mark_secrets
from jobq_core.parents import with_parent
from jobq_core.records import AttemptRecord, ErrorRecord, JobRecord, Progress, WorkerInfo, WorkerRecord, WorkerStats
from jobq_core.states import JobState, StopRequest
from jobq_core.storage import (
    GATED,
    UNFIT_ARGUMENTS,
    UNKNOWN_KIND,
    Action,
    AuditEntry,
    JobFilter,
    Operation,
    OperationState,
    QueueRecord,
)
from jobq_core.why import Facts, explain

S = JobState
NOW = datetime(2026, 11, 30, 3, 0, tzinfo=UTC)
JOB = UUID(int=1)
W1 = UUID(int=11)
OPERATION = UUID(int=21)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def job(state: JobState, **fields: Any) -> JobRecord:
    fields = {"attempt": 0, "created_at": ago(3600)} | fields
    fields = {"arguments_json": b"{}"} | fields
    return JobRecord(id=JOB, kind="send", queue="mail", state=state, priority=0, **fields)


def worker(
    name: str = "w1",
    *,
    queues: tuple[str, ...] = ("mail",),
    kinds: tuple[str, ...] = ("send",),
    expires_in: float = 20.0,
    slots: int = 10,
    **stats: Any,
) -> WorkerRecord:
    info = WorkerInfo(
        id=W1 if name == "w1" else UUID(int=12),
        name=name,
        host="host",
        pid=1,
        queues=queues,
        kinds=kinds,
        concurrency=slots,
        lost_after=30.0,
    )
    beat_at = ago(30 - expires_in)
    return WorkerRecord(
        info=info, started_at=ago(3600), beat_at=beat_at, expires_at=ago(-expires_in), stats=WorkerStats(**stats)
    )


def audit(action: str) -> list[AuditEntry]:
    return [AuditEntry(id=UUID(int=5), at=ago(60), actor="kai@web1", action=action, target=str(JOB))]


def operation(action: Action, *, begun: float = 70, worked: float = 50, **fields: Any) -> Operation:
    defaults: dict[str, Any] = {
        "id": OPERATION,
        "value": None,
        "filter": JobFilter(queue="mail", states=[S.PENDING]),
        "before": UUID(int=2),
        "actor": "kai@web1",
        "created_at": ago(begun),
        "worked_at": ago(worked),
        "state": OperationState.DONE,
        "changed": 100_000,
    }
    return Operation(action=action, **defaults | fields)


def paused(**fields: Any) -> list[QueueRecord]:
    return [QueueRecord(name="mail", paused_at=ago(7200), **fields)]


def failed_attempt(number: int) -> AttemptRecord:
    error = ERROR if number == 2 else ErrorRecord(type="ValueError", message="another")
    return AttemptRecord(number=number, lease=number, worker=W1, started_at=ago(90), finished_at=ago(60), error=error)


ERROR = ErrorRecord(type="ConnectionError", message="refused")
LOST = ErrorRecord(type="jobq_core.errors.WorkerLostError", message="worker 'w1' missed its heartbeat")
LATE = ErrorRecord(type="jobq_core.errors.JobDeadlineError", message="its deadline passed before it could start")
RUNS: dict[str, Any] = {"worker": W1, "attempt": 2, "started_at": ago(90)}
ENDED: dict[str, Any] = {"attempt": 1, "started_at": ago(13), "finished_at": ago(10)}

CASES: list[tuple[str, str, JobRecord, dict[str, Any]]] = [
    # SCHEDULED
    (
        "delayed",
        "it is delayed until 2026-11-30 06:00:00 UTC (in 3 h)",
        job(S.SCHEDULED, reason="delayed", run_at=ago(-10_800)),
        {},
    ),
    (
        "backoff",
        "attempt 2 of 10 failed with ConnectionError; the next one starts at 2026-11-30 03:00:40 UTC (in 40 s)",
        job(S.SCHEDULED, reason="backoff", run_at=ago(-40), attempt=2, attempts=(failed_attempt(1), failed_attempt(2))),
        {},
    ),
    (
        "snoozed",
        "its handler asked to go on at 2026-11-30 03:05:00 UTC (in 5 min)",
        job(S.SCHEDULED, reason="snoozed", run_at=ago(-300)),
        {},
    ),
    (
        "deadline-first",
        "it starts at 2026-11-30 03:10:00 UTC (in 10 min), and fails first: its deadline is 2026-11-30 03:05:00 UTC",
        job(S.SCHEDULED, reason="delayed", run_at=ago(-600), deadline=ago(-300)),
        {},
    ),
    ("due", "it was due 1.0 s ago and starts in a moment", job(S.SCHEDULED, run_at=ago(1)), {}),
    (
        "not-promoted",
        "it was due 60 s ago, at 2026-11-30 02:59:00 UTC, and no worker has started it: see their logs",
        job(S.SCHEDULED, run_at=ago(60)),
        {},
    ),
    (
        "no-maintenance",
        "it has been due since 2026-11-30 02:59:59 UTC, and no worker is alive to start it",
        job(S.SCHEDULED, run_at=ago(1)),
        {"workers": []},
    ),
    ("scheduled", "it waits for a time that is not known", job(S.SCHEDULED), {}),
    # BLOCKED
    (
        "unknown-kind",
        "no live worker of queue 'mail' knows the kind 'send': deploy one that declares it",
        job(S.BLOCKED, reason=UNKNOWN_KIND),
        {"workers": [worker(kinds=("resize",))]},
    ),
    (
        "kind-known-again",
        "worker 'w1' knows its kind 'send' and frees it at its next claim",
        job(S.BLOCKED, reason=UNKNOWN_KIND),
        {},
    ),
    (
        "unfit-arguments",
        "its arguments do not fit the declaration of 'send' on any worker: deploy one that takes them",
        job(S.BLOCKED, reason=UNFIT_ARGUMENTS),
        {},
    ),
    ("gated", "it waits to be admitted", job(S.BLOCKED, reason=GATED), {}),
    ("held-back", "its worker holds it back: licence expired", job(S.BLOCKED, reason="licence expired"), {}),
    (
        "held-back",
        "its worker holds it back: licence expired, until 2026-11-30 03:00:40 UTC at the latest",
        job(S.BLOCKED, reason="licence expired", run_at=ago(-40)),
        {},
    ),
    # DISABLED
    (
        "disabled",
        f"it was disabled by kai@web1 at 2026-11-30 02:59:00 UTC; to let it run: jobq enable {JOB}",
        job(S.DISABLED, reason="disabled", since=ago(60)),
        {"audit": audit("disable")},
    ),
    (
        "disabled",
        f"it was disabled at 2026-11-30 02:59:00 UTC; to let it run: jobq enable {JOB}",
        job(S.DISABLED, reason="disabled", since=ago(60)),
        {},
    ),
    (
        "disabled",
        f"its handler disabled it: needs a human; to let it run: jobq enable {JOB}",
        job(S.DISABLED, reason="needs a human"),
        {},
    ),
    (
        "disabled",
        f"its handler disabled it: no credit; to let it run: jobq enable {JOB}",
        job(S.DISABLED, reason="no credit", since=ago(60)),
        {"audit": [*audit("enable"), *audit("disable")]},
    ),
    # PENDING
    (
        "past-deadline",
        "its deadline passed at 2026-11-30 02:59:59 UTC: it fails in a moment",
        job(S.PENDING, deadline=ago(1)),
        {},
    ),
    (
        "queue-paused",
        "queue 'mail' was paused by kai@web1 at 2026-11-30 01:00:00 UTC; to resume it: jobq resume mail",
        job(S.PENDING),
        {"queues": paused(paused_by="kai@web1")},
    ),
    (
        "queue-paused",
        "queue 'mail' was paused at 2026-11-30 01:00:00 UTC; to resume it: jobq resume mail",
        job(S.PENDING),
        {"queues": paused()},
    ),
    ("no-worker", "no worker is alive: start one that serves queue 'mail'", job(S.PENDING), {"workers": []}),
    (
        "queue-not-served",
        "no live worker serves queue 'mail'; did you mean 'mial'?",
        job(S.PENDING),
        {"workers": [worker(queues=("mial",))]},
    ),
    (
        "queue-not-served",
        "no live worker serves queue 'mail'",
        job(S.PENDING),
        {"workers": [worker(queues=("images",))]},
    ),
    (
        "worker-lost",
        "the last worker of queue 'mail', 'w1', has been silent for 34 s: start a worker",
        job(S.PENDING),
        {"workers": [worker(expires_in=-4), worker("w2", queues=("images",))]},
    ),
    (
        "no-slots",
        "the workers of queue 'mail' have no slots: they were scaled to 0",
        job(S.PENDING),
        {"workers": [worker(slots=0)]},
    ),
    (
        "kind-not-served",
        "no live worker of queue 'mail' knows the kind 'send': deploy one that declares it, and 3 jobs are ahead of it",
        job(S.PENDING),
        {"workers": [worker(kinds=("resize",))], "ahead": 3},
    ),
    (
        "loop-blocked",
        "the loop of worker 'w1' is blocked: see its log, and 1 job is ahead of it",
        job(S.PENDING),
        {"workers": [worker(loop_lag=12.0)], "ahead": 1},
    ),
    ("limited", "the limiter of worker 'w1' opens in 12 s", job(S.PENDING), {"workers": [worker(limited=12.0)]}),
    (
        "slots-busy",
        "all 20 slots of the 2 workers of queue 'mail' are busy, and 12,345 jobs are ahead of it",
        job(S.PENDING),
        {"workers": [worker(running=10), worker("w2", running=10)], "ahead": 12_345},
    ),
    (
        "slots-busy",
        "all 10 slots of the worker of queue 'mail' are busy",
        job(S.PENDING),
        {"workers": [worker(running=10)]},
    ),
    (
        "in-line",
        "more than 100,000 jobs are ahead of it in queue 'mail', and 7 of 10 slots are free",
        job(S.PENDING),
        {"workers": [worker(running=3)], "ahead": 100_000},
    ),
    (
        "polling",
        "it is next in queue 'mail'; its workers receive no notifications and look every second",
        job(S.PENDING),
        {"workers": [worker(hears=False)]},
    ),
    ("next", "it is next in queue 'mail' and starts in a moment: 10 of 10 slots are free", job(S.PENDING), {}),
    # PROCESSING
    (
        "running",
        "it has been running on 'w1' for 90 s, attempt 2 of 10: 40 % page 4",
        job(S.PROCESSING, progress=Progress(percent=40, message="page 4"), **RUNS),
        {},
    ),
    (
        "aborting",
        "it was asked to abort by kai@web1 60 s ago, and its handler is still running on 'w1' after 90 s",
        job(S.PROCESSING, stop_request=StopRequest.ABORT, **RUNS),
        {"audit": audit("abort")},
    ),
    (
        "disabling",
        "it was asked to stop and to be disabled, and its handler is still running on 'w1' after 90 s",
        job(S.PROCESSING, stop_request=StopRequest.DISABLE, **RUNS),
        {},
    ),
    (
        "rescue",
        "its worker 'w1' has missed its heartbeat for 34 s; a live worker rescues it within 5 s",
        job(S.PROCESSING, **RUNS),
        {"workers": [worker(expires_in=-4), worker("w2")]},
    ),
    (
        "rescue",
        f"its worker {W1} is not registered any more; no worker is alive to rescue it: start one",
        job(S.PROCESSING, **RUNS),
        {"workers": []},
    ),
    (
        "worker-blocked",
        "the loop of its worker 'w1' has not answered for 12 s: see its log",
        job(S.PROCESSING, **RUNS),
        {"workers": [worker(loop_lag=12.0)]},
    ),
    (
        "hung",
        "its handler is still running past its timeout of 60 s on 'w1': jobq workers drain w1",
        job(S.PROCESSING, timeout=60.0, **RUNS),
        {},
    ),
    (
        "no-process",
        (
            "it has waited for 90 s for a handler process of 'w1', as of 10 s ago: "
            "all are busy or starting (see process_limit)"
        ),
        job(S.PROCESSING, timeout=60.0, **RUNS),
        {"workers": [worker(awaiting_process=(UUID(int=2), JOB))]},
    ),
    # Ended
    (
        "completed",
        "it completed at 2026-11-30 02:59:50 UTC after 3.0 s, in attempt 1",
        job(S.COMPLETED, **ENDED),
        {},
    ),
    (
        "attempts-spent",
        "it failed at 2026-11-30 02:59:50 UTC in the last of 3 attempts, with ConnectionError: refused",
        job(S.FAILED, error=ERROR, max_attempts=3, **(ENDED | {"attempt": 3})),
        {},
    ),
    (
        "attempts-spent",
        "it failed at 2026-11-30 02:59:50 UTC in its only attempt, with ConnectionError: refused",
        job(S.FAILED, error=ERROR, max_attempts=1, **ENDED),
        {},
    ),
    (
        "permanent-error",
        "it failed at 2026-11-30 02:59:50 UTC in attempt 1 of 10, and is not retried, with ConnectionError: refused",
        job(S.FAILED, error=ERROR, **ENDED),
        {},
    ),
    (
        "deadline-passed",
        "it failed at 2026-11-30 02:59:50 UTC: its deadline passed before it could start",
        job(S.FAILED, error=LATE, finished_at=ago(10)),
        {},
    ),
    (
        "deadline-passed",
        "it failed at 2026-11-30 02:59:50 UTC: its deadline passed before it could start again, after 2 of 10 attempts",
        job(S.FAILED, error=LATE, **(ENDED | {"attempt": 2})),
        {},
    ),
    (
        "worker-lost-last",
        "it failed at 2026-11-30 02:59:50 UTC: its worker was lost in its last attempt",
        job(S.FAILED, error=LOST, max_attempts=1, **ENDED),
        {},
    ),
    ("failed", "it failed at 2026-11-30 02:59:50 UTC", job(S.FAILED, **ENDED), {}),
    (
        "aborted",
        "it was aborted by kai@web1 at 2026-11-30 02:59:50 UTC",
        job(S.ABORTED, finished_at=ago(10)),
        {"audit": audit("abort")},
    ),
    (
        "aborted",
        "it was aborted at 2026-11-30 02:59:50 UTC",
        job(S.ABORTED, finished_at=ago(10)),
        {"audit": [*audit("retry"), *audit("abort")]},
    ),
    ("aborted", "it was aborted at 2026-11-30 02:59:50 UTC", job(S.ABORTED, finished_at=ago(10)), {}),
]


@pytest.mark.parametrize(("code", "sentence", "record", "facts"), CASES, ids=range(len(CASES)))
def test_a_reason_is_one_true_sentence(code: str, sentence: str, record: JobRecord, facts: dict[str, Any]) -> None:
    reason = explain(record, Facts(now=NOW, **({"workers": [worker()]} | facts)))
    assert (reason.code, reason.sentence) == (code, sentence)


DISABLED = job(S.DISABLED, reason="disabled", since=ago(60))
ABORTED = job(S.ABORTED, finished_at=ago(60))
STOPPED: dict[str, Any] = {
    "attempt": 1,
    "started_at": ago(90),
    "attempts": (AttemptRecord(number=1, lease=1, worker=W1, started_at=ago(90), finished_at=ago(10), error=ERROR),),
}
"""A run that ended long after it was asked to."""
MOMENT = ago(-3600)

BULK: list[tuple[str, str, JobRecord, Operation]] = [
    (
        "disabled",
        (
            f"it was disabled by kai@web1 at 2026-11-30 02:59:00 UTC (operation {OPERATION}); "
            f"to let it run: jobq enable {JOB}"
        ),
        DISABLED,
        operation(Action.DISABLE),
    ),
    (
        "aborted",
        f"it was aborted by kai@web1 at 2026-11-30 02:59:00 UTC (operation {OPERATION})",
        ABORTED,
        operation(Action.ABORT),
    ),
    # Asked to stop in the time of the operation; its handler ended later.
    (
        "aborted",
        f"it was aborted by kai@web1 at 2026-11-30 02:59:50 UTC (operation {OPERATION})",
        job(S.ABORTED, finished_at=ago(10), **STOPPED),
        operation(Action.ABORT),
    ),
    (
        "disabled",
        (
            f"it was disabled by kai@web1 at 2026-11-30 02:58:50 UTC (operation {OPERATION}); "
            f"to let it run: jobq enable {JOB}"
        ),
        job(S.DISABLED, since=ago(10), **STOPPED),
        operation(Action.DISABLE),
    ),
    (
        "aborting",
        (
            f"it was asked to abort by kai@web1 70 s ago (operation {OPERATION}), and its handler is still running on "
            "'w1' after 90 s"
        ),
        job(S.PROCESSING, stop_request=StopRequest.ABORT, **RUNS),
        operation(Action.ABORT),
    ),
    (
        "disabling",
        (
            f"it was asked to stop and to be disabled by kai@web1 70 s ago (operation {OPERATION}), and its "
            "handler is still running on 'w1' after 90 s"
        ),
        job(S.PROCESSING, stop_request=StopRequest.DISABLE, **RUNS),
        operation(Action.DISABLE),
    ),
    (
        "delayed",
        (
            "it is delayed until 2026-11-30 04:00:00 UTC (in 60 min), rescheduled by kai@web1 at "
            f"2026-11-30 02:58:50 UTC (operation {OPERATION})"
        ),
        job(S.SCHEDULED, reason="delayed", run_at=MOMENT, since=ago(3600)),
        operation(Action.RESCHEDULE, value=MOMENT.isoformat()),
    ),
    # An operation that goes on, or was cancelled, has worked on the ids from its cursor on.
    (
        "aborted",
        f"it was aborted by kai@web1 at 2026-11-30 02:59:00 UTC (operation {OPERATION})",
        ABORTED,
        operation(Action.ABORT, state=OperationState.RUNNING, cursor=JOB),
    ),
]
"""Jobs that have no entry in the audit, and the operation that changed them."""


@pytest.mark.parametrize(("code", "sentence", "record", "made"), BULK, ids=range(len(BULK)))
def test_a_bulk_operation_is_named_that_changed_the_job(
    code: str, sentence: str, record: JobRecord, made: Operation
) -> None:
    [entry] = bulk_changes(record, [made])
    assert (entry.actor, entry.action, entry.target) == (made.actor, made.action.value, str(record.id))
    reason = explain(record, Facts(now=NOW, workers=[worker()], audit=[entry]))
    assert (reason.code, reason.sentence) == (code, sentence)


OTHERS: dict[str, tuple[JobRecord, Operation]] = {
    "another action": (DISABLED, operation(Action.ENABLE)),
    "an abort of what was disabled": (DISABLED, operation(Action.ABORT)),
    "over before": (DISABLED, operation(Action.DISABLE, begun=80, worked=61)),
    "begun later": (DISABLED, operation(Action.DISABLE, begun=59)),
    "over before it started": (
        job(S.PROCESSING, stop_request=StopRequest.ABORT, **RUNS),
        operation(Action.ABORT, begun=100, worked=91),
    ),
    "of a job that did not run": (job(S.ABORTED, finished_at=ago(10)), operation(Action.ABORT)),
    "changed nothing": (DISABLED, operation(Action.DISABLE, changed=0)),
    "the job came later": (DISABLED, operation(Action.DISABLE, before=JOB)),
    "not worked on so far": (ABORTED, operation(Action.ABORT, state=OperationState.CANCELLED, cursor=UUID(int=2))),
    "no slice worked off": (ABORTED, operation(Action.ABORT, state=OperationState.RUNNING, cursor=None)),
    "another moment": (
        job(S.SCHEDULED, reason="delayed", run_at=ago(-60), since=ago(60)),
        operation(Action.RESCHEDULE, value=MOMENT.isoformat()),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_an_operation_is_not_named_that_cannot_be_known_to_have_changed_the_job(name: str) -> None:
    record, made = OTHERS[name]
    assert bulk_changes(record, [made]) == []


MATCHES: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({}, {}, True),
    ({}, {"queue": "letters"}, False),
    ({}, {"kinds": ("resize", "send")}, True),
    ({}, {"kinds": ("resize",)}, False),
    ({"tags": ("a", "b")}, {"tags": ("b",)}, True),
    ({"tags": ("a",)}, {"tags": ("a", "b")}, False),
    ({"run_id": "r"}, {"run_id": "r"}, True),
    ({"run_id": "r"}, {"run_id": "s"}, False),
    ({}, {"since": ago(3600), "until": ago(3599)}, True),
    ({}, {"since": ago(3599)}, False),
    ({}, {"until": ago(3600)}, False),
    ({"error": ERROR}, {"error_type": "ConnectionError", "error": "REFUSED"}, True),
    ({"error": ERROR}, {"error_type": "ValueError"}, False),
    ({}, {"error": "refused"}, False),
    ({"arguments_json": b'{"n":7}'}, {"argument": ("n", 7)}, True),
    ({"arguments_json": b'{"n":7}'}, {"argument": ("n", 8)}, False),
    ({"arguments_json": b'{"n":7}', "meta_json": mark_secrets(None, ["n"])}, {"argument": ("n", 7)}, False),
    ({"worker": W1}, {"worker": W1}, True),
    ({"worker": W1}, {"worker": JOB}, False),
    ({"meta_json": with_parent(None, W1)}, {"parent": W1}, True),
    ({}, {"parent": W1}, False),
]
"""Fields of a job, conditions of an operation's filter, and whether the operation may have changed the job."""


@pytest.mark.parametrize(("fields", "conditions", "matches"), MATCHES, ids=range(len(MATCHES)))
def test_an_operation_is_named_whose_filter_matches_but_for_the_state(
    fields: dict[str, Any], conditions: dict[str, Any], matches: bool
) -> None:
    record = job(S.DISABLED, since=ago(60), **fields)
    wanted = JobFilter(states=[S.PENDING], **conditions)
    assert len(bulk_changes(record, [operation(Action.DISABLE, filter=wanted)])) == matches


def test_there_is_a_case_for_each_state() -> None:
    assert {record.state for _, _, record, _ in CASES} == set(JobState)
    assert len({code for code, *_ in CASES}) >= 25
