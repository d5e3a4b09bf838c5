"""Settling runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, groupby
from typing import Any, Final

from jobq_core.records import ErrorRecord, Progress
from jobq_core.states import FINISHED, Ending, JobState, gives_attempt_back, state_after
from jobq_core.storage import FINISHED_TOPIC, PROGRESS_TOPIC, Settlement
from jobq_core.storage import GATED as GATED_REASON
from jobq_core.timestamps import to_moment
from jobq_storage_sqlite.adding import add
from jobq_storage_sqlite.columns import from_progress, text, to_request
from jobq_storage_sqlite.endings import RETURNED, EndingJob, end, end_followed, topic_of
from jobq_storage_sqlite.runs import FOLLOWED, GATED, Run
from jobq_storage_sqlite.suspending import SUSPENDED, refuse, suspend
from jobq_storage_sqlite.transaction import Transaction

_REASONS: Final = {
    JobState.SCHEDULED: "backoff",
    JobState.BLOCKED: "released",
    JobState.DISABLED: "disabled",
    JobState.ABORTED: "aborted",
}


class Held(EndingJob, gc=False):
    """What find_run reads of a job, behind what every end needs."""

    waited: int
    started_at: int
    attempt: int
    request: str | None
    worker: bytes | None
    run_at: int | None
    position: int
    urgency: int
    error_lease: int | None
    extra: str | None
    priority: int


def settle(transaction: Transaction, settlements: Sequence[Settlement]) -> list[JobState | None]:
    """Settle runs in the order given; consecutive runs that completed, and brought nothing else, are settled
    together."""
    if all([_only_completes(settlement) for settlement in settlements]):  # noqa: C419 -- a generator takes twice as long
        return _complete(transaction, settlements)
    answers: list[JobState | None] = []
    for plain, some in groupby(settlements, _only_completes):
        if plain:
            answers += _complete(transaction, list(some))
        else:
            answers += [_settle_one(transaction, settlement) for settlement in some]
    return answers


def _only_completes(settlement: Settlement) -> bool:
    return settlement.ending is Ending.COMPLETE and settlement.progress is None and not settlement.jobs


def _complete(transaction: Transaction, settlements: Sequence[Settlement]) -> list[JobState | None]:
    now, runs = transaction.now, transaction.runs
    known: list[Run] = []
    rows: list[tuple[Any, ...]] = []
    for settlement in settlements:
        run = runs.pop(settlement.lease, None)
        # The ids are the same object, where the worker is in this process.
        if run is None or (run[0] is not settlement.id and run[0] != settlement.id):
            return [_settle_one(transaction, settlement) for settlement in settlements]
        known.append(run)
        rows.append((now, settlement.result, run[1], settlement.lease))
    if transaction.many("complete", rows) == len(rows):
        _note_completed(transaction, known)
        return [JobState.COMPLETED] * len(rows)
    # Some leases are over.
    done = [transaction.one("is_completed", *row[2:], now) is not None for row in rows]
    _note_completed(transaction, list(compress(known, done)))
    return [
        JobState.COMPLETED if completed else _settled(transaction, settlement)
        for settlement, completed in zip(settlements, done, strict=True)
    ]


def _note_completed(transaction: Transaction, runs: list[Run]) -> None:
    now = transaction.now
    times: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
    for job_id, n, queue, kind, waited, started_at, flags, unique_key in runs:
        if (kept := times.get((queue, kind))) is None:
            kept = times[queue, kind] = ([], [])
        kept[0].append(waited)
        kept[1].append(now - started_at)
        if flags & FOLLOWED or unique_key is not None:
            end_followed(transaction, job_id.bytes, n, queue, JobState.COMPLETED, flags, unique_key)
    for (queue, kind), (all_waited, all_ran) in times.items():
        ended = (queue, kind, JobState.COMPLETED.value, len(all_ran), all_waited, all_ran)
        transaction.tally.ended.append(ended)
        transaction.topics.add(FINISHED_TOPIC)


def _settled(transaction: Transaction, settlement: Settlement) -> JobState | None:
    """Return the state that a settlement under this lease led to, now or earlier."""
    row = transaction.one("find_settled", settlement.id.bytes, settlement.lease)
    return None if row is None or row[0] is None else JobState(row[0])


def _settle_one(transaction: Transaction, settlement: Settlement) -> JobState | None:
    transaction.runs.pop(settlement.lease, None)
    row = transaction.one("find_run", settlement.id.bytes, settlement.lease)
    if row is None:
        return _settled(transaction, settlement)
    held = Held(*row)
    if settlement.progress is not None:
        store_progress(transaction, held.n, settlement.progress)
    if settlement.ending is Ending.COMPLETE:
        transaction.run("complete", transaction.now, settlement.result, held.n, settlement.lease)
        state = JobState.COMPLETED
        _note(transaction, held, state, None)
    else:
        state = _put(transaction, settlement, held)
    if settlement.jobs:
        add(transaction, settlement.jobs)
    return state


def _put(transaction: Transaction, settlement: Settlement, held: Held) -> JobState:
    """Move a job that did not complete to the state that its ending leads to."""
    now, ending, lease, error = transaction.now, settlement.ending, settlement.lease, settlement.error
    when = to_moment(settlement.when, now)
    waits, gated, request = when is not None and when > now, bool(held.flags & GATED), to_request(held.request)
    state = state_after(ending, request=request, waits=waits, gated=gated)
    counts = not gives_attempt_back(ending, request=request)
    if counts and error is not None:
        insert_attempt(transaction, held.n, lease, held.attempt, held.worker, held.started_at, error)
    kept = counts and error is not None and state not in (JobState.SCHEDULED, JobState.BLOCKED, JobState.PENDING)
    at_gate = state is JobState.BLOCKED and ending is not Ending.SUSPEND and not (ending is Ending.RELEASE and waits)
    reason = GATED_REASON if at_gate else _reason(settlement, state)
    urgency, position, run_at, extra = held.urgency, held.position, held.run_at, held.extra
    if state is JobState.PENDING:
        position = transaction.numbers(1)
        urgency = -held.priority if counts or ending is Ending.SNOOZE else RETURNED
    elif state in (JobState.SCHEDULED, JobState.BLOCKED):
        run_at = None if at_gate or ending is Ending.SUSPEND else when
    if ending is Ending.SUSPEND:
        extra = refuse(extra, settlement.declaration)
    transaction.run(
        "settle",
        state.value,
        state.value,
        now,
        urgency,
        position,
        held.attempt - (not counts),
        run_at,
        reason,
        now if state in FINISHED else None,
        lease if kept else held.error_lease,
        extra,
        held.n,
    )
    if state is JobState.BLOCKED and reason in SUSPENDED:
        suspend(transaction, held, extra)
    _note(transaction, held, state, error)
    return state


def _reason(settlement: Settlement, state: JobState) -> str | None:
    if state is JobState.PENDING:
        return None
    if settlement.reason is not None:
        return str(text(settlement.reason))
    if state is JobState.SCHEDULED and settlement.ending is Ending.SNOOZE:
        return "snoozed"
    return _REASONS.get(state)


def _note(transaction: Transaction, held: Held, state: JobState, error: ErrorRecord | None) -> None:
    """Note what follows from the state that a settlement led to."""
    if state in FINISHED:
        end(transaction, held, state, (held.waited, transaction.now - held.started_at), error)
    else:
        transaction.topics.add(topic_of(state, held.queue))


def store_progress(transaction: Transaction, n: int, progress: Progress) -> None:
    """Store the last progress of a run that ends."""
    transaction.run("store_progress", *from_progress(progress), n)
    transaction.topics.add(PROGRESS_TOPIC)


def insert_attempt(
    transaction: Transaction,
    n: int,
    lease: int,
    attempt: int,
    worker: bytes | None,
    started_at: int,
    error: ErrorRecord,
) -> None:
    """Append a run that did not complete to a job's history."""
    transaction.run(
        "insert_attempt",
        n,
        lease,
        attempt,
        worker,
        started_at,
        transaction.now,
        text(error.type),
        text(error.message),
        text(error.traceback),
    )
