"""Claiming the heads of lines, and freeing the suspended jobs that a worker can take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

from jobq_core.storage import Claim, ClaimedJob, Line
from jobq_core.timestamps import SECOND
from jobq_storage_sqlite.columns import to_array, to_id, to_tags
from jobq_storage_sqlite.suspending import free_suspended
from jobq_storage_sqlite.transaction import Transaction

FEW_LINES: Final = 8
"""The number of lines from which a claim first looks which queues have PENDING jobs."""


class Claiming:
    """A claim under way, and its results so far."""

    def __init__(self, transaction: Transaction, worker: UUID, claim: Claim) -> None:
        self._transaction = transaction
        # sqlite3 looks for an adapter of bytes, and not of bytearray, for each row.
        self._holder = bytearray(worker.bytes)
        self._claim = claim
        paused = {queue for (queue,) in transaction.all("paused")}
        self.paused = tuple(dict.fromkeys(queue for queue in claim.queues if queue in paused)) if paused else ()
        self.claimed: list[ClaimedJob] = []
        self.picked = 0
        self.freed = 0
        self.more = False
        self._bytes_left = claim.max_bytes

    def free(self) -> None:
        """Free suspended jobs that the worker can take."""
        claim = self._claim
        if claim.kinds:
            self.freed = free_suspended(self._transaction, claim.queues, dict(claim.kinds), limit=claim.limit)

    def take(self) -> None:
        """Claim jobs, line by line."""
        for line in self._lines():
            left = self._claim.limit - self.picked
            if left <= 0 or self.more:
                break
            if line.queue not in self.paused:
                self._take_from(line.queue, left if line.limit is None else min(left, line.limit))

    def _lines(self) -> Sequence[Line]:
        lines = self._claim.lines
        if len(lines) < FEW_LINES:
            return lines
        ready = {queue for (queue,) in self._transaction.all("find_ready_queues")}
        return [line for line in lines if line.queue in ready]

    def _take_from(self, queue: str, limit: int) -> None:
        transaction, now = self._transaction, self._transaction.now
        heads = transaction.run("claim_heads", queue, limit)
        rows = heads.fetchall() if self._bytes_left is None else list(self._within_bytes(heads))
        if not rows:
            return
        self.picked += len(rows)
        if None in [row[5] for row in rows]:
            transaction.run("delete_lives", numbers=to_array([row[0] for row in rows if row[5] is None]))
            rows = [row for row in rows if row[5] is not None]
        first = transaction.numbers(len(rows))
        holder, runs, claimed = self._holder, transaction.runs, self.claimed
        transaction.many("start", [(lease, holder, now, row[0]) for lease, row in enumerate(rows, first)])
        for lease, (n, since, flags, unique_key, attempt, *columns) in enumerate(rows, first):
            job = to_claimed(lease, attempt, columns, now)
            runs[lease] = (job.id, n, queue, job.kind, now - since if now > since else 0, now, flags, unique_key)
            claimed.append(job)

    def _within_bytes(self, heads: Any) -> Iterator[Any]:
        """Yield rows until the arguments of the next one would exceed the limit."""
        assert self._bytes_left is not None
        first = not self.claimed
        for row in heads:
            arguments = row[8]
            if arguments is not None:
                if len(arguments) > self._bytes_left and not first:
                    self.more = True
                    heads.close()
                    return
                self._bytes_left -= len(arguments)
                first = False
            yield row


def to_claimed(lease: int, attempt: int, job: Sequence[Any], now: int) -> ClaimedJob:
    """Return the ClaimedJob of the columns of claimed_job."""
    job_id, queue, kind, arguments, max_attempts, priority, timeout, deadline, backoff, run_id, tags, meta = job
    return ClaimedJob(
        to_id(job_id),
        lease,
        queue,
        kind,
        arguments,
        attempt,
        max_attempts,
        priority,
        timeout,
        None if deadline is None else (deadline - now) / SECOND,
        backoff,
        run_id,
        () if tags is None else to_tags(tags),
        meta,
    )
