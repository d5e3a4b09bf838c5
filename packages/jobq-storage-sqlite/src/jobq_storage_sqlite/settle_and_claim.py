"""Settling and claiming: the path that every job takes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from itertools import groupby
from typing import Any
from uuid import UUID

from jobq_core.records import ErrorRecord
from jobq_core.states import FINISHED, Ending, JobState, gives_attempt_back, state_after
from jobq_core.storage import (
    FINISHED_TOPIC,
    WAITING_TOPIC,
    Claim,
    ClaimedJob,
    LeaseStatus,
    SettleAndClaimResult,
    Settlement,
    WorkerStorage,
    queue_topic,
)
from jobq_core.timestamps import SECOND, to_moment
from jobq_storage_sqlite.columns import from_ids, text, to_array, to_id, to_request, to_tags
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.transaction import Transaction

_REASONS = {
    JobState.SCHEDULED: "backoff",
    JobState.BLOCKED: "released",
    JobState.DISABLED: "disabled",
    JobState.ABORTED: "aborted",
}


class SettlingAndClaiming(StorageOnFile, WorkerStorage):
    """Settles and claims through the writer."""

    async def settle_and_claim(
        self, worker: UUID, settlements: Sequence[Settlement] = (), claim: Claim | None = None
    ) -> SettleAndClaimResult:
        return await self._write(partial(settle_and_claim, worker=worker, settlements=settlements, claim=claim))

    async def mark_started(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[bool]:
        return await self._write(partial(mark_started, worker=worker, leases=leases)) if leases else []

    async def check_leases(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[LeaseStatus]:
        if not leases:
            return []
        ids, numbers = zip(*leases, strict=True)
        rows = await self._read("check_leases", ids=from_ids(ids), leases=to_array(numbers), worker=worker.bytes)
        requests = dict(rows)
        return [
            LeaseStatus(True, to_request(requests[position])) if position in requests else LeaseStatus(False)
            for position in range(len(leases))
        ]

    async def recover_claims(self, worker: UUID, leases: Collection[int]) -> list[ClaimedJob]:
        # In the writer, behind this process's own writes, so that it finds the claims of a call that was cancelled.
        return await self._write(partial(recover_claims, worker=worker, leases=leases))


def settle_and_claim(
    transaction: Transaction, worker: UUID, settlements: Sequence[Settlement], claim: Claim | None
) -> SettleAndClaimResult:
    """Settle runs, then claim jobs if the worker is alive."""
    settled = settle(transaction, settlements)
    alive = transaction.one("is_worker_alive", transaction.uptime, worker.bytes) is not None
    claimed = _claim(transaction, worker, claim) if alive and claim is not None else []
    return SettleAndClaimResult(settled, claimed, alive, picked=len(claimed))


def settle(transaction: Transaction, settlements: Sequence[Settlement]) -> list[JobState | None]:
    """Settle runs in the order given; consecutive runs that completed are settled together."""
    answers: list[JobState | None] = []
    for completed, some in groupby(settlements, _completes):
        if completed:
            answers += _complete(transaction, list(some))
        else:
            answers += [_settle_one(transaction, settlement) for settlement in some]
    return answers


def _completes(settlement: Settlement) -> bool:
    return settlement.ending is Ending.COMPLETE


def _complete(transaction: Transaction, settlements: list[Settlement]) -> list[JobState | None]:
    now = transaction.now
    rows = [(now, settlement.result, settlement.id.bytes, settlement.lease) for settlement in settlements]
    changed = transaction.many("complete", rows)
    if changed:
        transaction.topics.add(FINISHED_TOPIC)
    if changed == len(settlements):
        return [JobState.COMPLETED] * changed
    return [_settled(transaction, settlement) for settlement in settlements]


def _settled(transaction: Transaction, settlement: Settlement) -> JobState | None:
    """Return the state that a settlement under this lease led to, now or earlier."""
    row = transaction.one("find_settled", settlement.id.bytes, settlement.lease)
    return None if row is None or row[0] is None else JobState(row[0])


def _settle_one(transaction: Transaction, settlement: Settlement) -> JobState | None:
    row = transaction.one("find_run", settlement.id.bytes, settlement.lease)
    if row is None:
        return _settled(transaction, settlement)
    n, queue, request, attempt, worker, started_at, run_at, position, error_lease = row
    now, ending, error = transaction.now, settlement.ending, settlement.error
    when = to_moment(settlement.when, now)
    state = state_after(ending, request=to_request(request), waits=when is not None and when > now)
    if gives_attempt_back(ending, request=to_request(request)):
        attempt -= 1
    elif ending is not Ending.COMPLETE and error is not None:
        insert_attempt(transaction, n, settlement.lease, attempt, worker, started_at, error)
        if state not in (JobState.SCHEDULED, JobState.PENDING):
            error_lease = settlement.lease
    if state is JobState.PENDING:
        position = transaction.numbers(1)
    elif state in (JobState.SCHEDULED, JobState.BLOCKED):
        run_at = when
    transaction.run(
        "settle",
        state.value,
        state.value,
        position,
        attempt,
        run_at,
        text(settlement.reason) or _REASONS.get(state),
        now if state in FINISHED else None,
        error_lease,
        n,
    )
    transaction.topics.add(topic_of(state, queue))
    return state


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


def topic_of(state: JobState, queue: str) -> str:
    """Return the topic to notify when a job comes to this state."""
    if state is JobState.PENDING:
        return queue_topic(queue)
    return WAITING_TOPIC if state in (JobState.SCHEDULED, JobState.BLOCKED) else FINISHED_TOPIC


def _claim(transaction: Transaction, worker: UUID, claim: Claim) -> list[ClaimedJob]:
    claimed: list[ClaimedJob] = []
    holder, now = worker.bytes, transaction.now
    for queue in claim.queues:
        left = claim.limit - len(claimed)
        if left <= 0:
            break
        rows = transaction.all("claim_heads", queue, left)
        if rows:
            lease = transaction.numbers(len(rows))
            starts = [(number, holder, now, row[0]) for number, row in enumerate(rows, lease)]
            transaction.many("start", starts)
            claimed += _claimed(rows, range(lease, lease + len(rows)), now)
    return claimed


def _claimed(rows: list[Any], leases: Iterable[int], now: int) -> list[ClaimedJob]:
    return [
        ClaimedJob(
            to_id(job_id),
            lease,
            queue,
            kind,
            arguments,
            attempt,
            max_attempts,
            -urgency,
            timeout,
            None if deadline is None else (deadline - now) / SECOND,
            backoff,
            run_id,
            () if tags is None else to_tags(tags),
        )
        for lease, (
            _,
            attempt,
            job_id,
            queue,
            kind,
            arguments,
            max_attempts,
            urgency,
            timeout,
            deadline,
            backoff,
            run_id,
            tags,
        ) in zip(leases, rows, strict=True)
    ]


def mark_started(transaction: Transaction, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[bool]:
    """Mark runs as started."""
    holder = worker.bytes
    return [transaction.run("mark_started", job_id.bytes, lease, holder).rowcount == 1 for job_id, lease in leases]


def recover_claims(transaction: Transaction, worker: UUID, leases: Collection[int]) -> list[ClaimedJob]:
    """Return the jobs that a worker holds beside the leases that it knows of."""
    known = frozenset(leases)
    rows = [row for row in transaction.all("find_claims", worker.bytes) if row[0] not in known]
    return _claimed(rows, [row[0] for row in rows], transaction.now)
