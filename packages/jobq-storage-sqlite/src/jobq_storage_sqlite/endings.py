"""The consequences of every ending of a job, and the states that a job enters instead of PENDING."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct

from jobq_core.records import ErrorRecord
from jobq_core.states import JobState
from jobq_core.storage import ENDED_TOPIC, FINISHED_TOPIC, WAITING_TOPIC, FailedJob, queue_topic
from jobq_storage_sqlite.columns import text, to_id
from jobq_storage_sqlite.runs import FAILURE_FOLLOWED, FOLLOWED, GATED
from jobq_storage_sqlite.spans import span_of
from jobq_storage_sqlite.transaction import Transaction

RETURNED: Final = -101
"""The urgency of the returned line, which comes before all priorities."""


class EndingJob(Struct, gc=False):
    """The fields of a job that every ending needs; the first columns of the statements that find jobs to end."""

    id: bytes
    n: int
    queue: str
    kind: str
    flags: int
    unique_key: str | None


def end(
    transaction: Transaction,
    job: EndingJob,
    state: JobState,
    times: tuple[int, int] | None = None,
    error: ErrorRecord | None = None,
) -> None:
    """Count an end, keep it if it is followed, and free the unique key.

    times: how many microseconds the job waited and ran; None if it ended where it waited. error: of a failed job.
    """
    waited, ran = ([], []) if times is None else ([times[0]], [times[1]])
    transaction.tally.ended.append((job.queue, job.kind, state.value, 1, waited, ran))
    if state is not JobState.COMPLETED:
        transaction.spans.add(("state", state.value, span_of(to_id(job.id))))
    failed = None
    if job.flags & FAILURE_FOLLOWED and state is JobState.FAILED:
        failed = _failed_job(transaction, job, error)
        transaction.topics.add(ENDED_TOPIC)
    end_followed(transaction, job.id, job.n, job.queue, state, job.flags, job.unique_key, failed)
    transaction.topics.add(FINISHED_TOPIC)


def _failed_job(transaction: Transaction, job: EndingJob, error: ErrorRecord | None) -> bytes:
    """Return what is kept of a failed job for its follow-up."""
    kind, arguments, follow_up, meta, run_id = transaction.one("find_follow_up", job.n)
    if error is not None:
        error = ErrorRecord(type=text(error.type), message=text(error.message), traceback=text(error.traceback))
    failed = FailedJob(
        id=to_id(job.id),
        queue=job.queue,
        kind=kind,
        arguments=Raw(arguments),
        follow_up=Raw(follow_up),
        meta=Raw(meta or b"null"),
        run_id=run_id,
        error=error,
    )
    return msgspec.json.encode(failed)


def end_followed(
    transaction: Transaction,
    job_id: bytes,
    n: int,
    queue: str,
    state: JobState,
    flags: int,
    unique_key: str | None,
    failed: bytes | None = None,
) -> None:
    """Keep an end if it is followed, and free the unique key. failed: what is kept for a follow-up."""
    if flags & FOLLOWED or failed is not None:
        transaction.run("insert_ended", job_id, queue, state.value, transaction.now, failed)
    if unique_key is not None:
        transaction.run("free_key", queue=queue, key=unique_key, n=n)


def put_in_line(transaction: Transaction, jobs: Sequence[tuple[int, str, int]], *, returned: bool = False) -> None:
    """Make jobs PENDING in this order, at the end of the line of their priority or of the returned line.

    jobs: their numbers, queues and flags. Gated ones become BLOCKED.
    """
    if not jobs:
        return
    now, position = transaction.now, transaction.numbers(len(jobs))
    urgency = RETURNED if returned else None
    freed: list[tuple[int, int, int | None, int]] = []
    for number, (n, queue, flags) in enumerate(jobs, position):
        if flags & GATED:
            transaction.run("hold_gated", now, n)
        else:
            freed.append((number, now, urgency, n))
            transaction.topics.add(queue_topic(queue))
    transaction.many("free", freed)


def topic_of(state: JobState, queue: str) -> str:
    """Return the topic to notify when a job comes to this state."""
    if state is JobState.PENDING:
        return queue_topic(queue)
    return WAITING_TOPIC if state in (JobState.SCHEDULED, JobState.BLOCKED) else FINISHED_TOPIC
