"""What people do to jobs, wherever these are at the moment.

A statement sees the tables as they were when it began. A job that is moved meanwhile is found in none of them: it was
locked where it was, and when the lock is free it is gone from there. So each operation runs its statement until every
job was found in some state or is in no table at all, in one transaction. What is moved while it was waited for is
looked for again from the beginning: to wait anew with locks in hand is how two come to wait for each other.

So that no two wait for each other, every statement locks tokens in one order: `waiting`, `ready`, `running`, `outcome`
(the order in which its last SELECT reads them), in each table by id, and unique keys after all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from jobq_core.states import FINISHED, JobState
from jobq_core.storage import FINISHED_TOPIC, REQUEST_TOPIC, WAITING_TOPIC, Change, queue_topic
from jobq_storage_postgres.binary import int4s, pack_int8, pack_moment, pack_text, uuids
from jobq_storage_postgres.database import Database, StartOverError, Transaction
from jobq_storage_postgres.notifier import Ring
from jobq_storage_postgres.sql import Statements

_CHUNK: Final = 5000
"""Jobs that are changed in one statement."""

_RESTARTS: Final = 30
"""How often an operation starts over for jobs that moved; then it goes on with what it has locked."""


class Control:
    """Abort, disable, enable, retry and delete."""

    def __init__(self, database: Database, statements: Statements, ring: Ring) -> None:
        self._database = database
        self._statements = statements
        self._ring = ring

    async def change(self, operation: str, ids: Sequence[UUID], *, ordered: bool = False) -> list[Change]:
        """Run an operation on jobs. ordered: it wants to know their order in the batch."""
        if not ids:
            return []
        topics: set[str] = set()

        async def work(transaction: Transaction) -> dict[UUID, Change]:
            topics.clear()
            return await self._change(transaction, operation, list(dict.fromkeys(ids)), ordered, topics)

        changes = await self._database.transact(work)
        self._ring(topics)
        answers: list[Change] = []
        for job_id in ids:
            change = changes[job_id]
            answers.append(change)
            # Said twice, it is done once; there is nothing to take back the second time.
            changes[job_id] = Change(job_id, change.after, change.after, change.asked and operation != "enable")
        return answers

    async def _change(
        self, transaction: Transaction, operation: str, ids: list[UUID], ordered: bool, topics: set[str]
    ) -> dict[UUID, Change]:
        order = {job_id: index for index, job_id in enumerate(ids)}
        changes: dict[UUID, Change] = {}
        left = sorted(ids, key=lambda job_id: job_id.bytes)
        while left:
            batch = left[:_CHUNK]
            params = [uuids([job_id.bytes for job_id in batch])]
            if ordered:
                params.append(int4s([order[job_id] for job_id in batch]))
            for job_id, before, after, asked, queue in await transaction.fetch(self._statements[operation], params):
                change = Change(
                    job_id,
                    None if before is None else JobState(before),
                    None if after is None else JobState(after),
                    asked,
                )
                changes[job_id] = change
                topics.update(_concerned(change, queue))
            moved = any(job_id not in changes for job_id in batch)
            if moved and changes and transaction.restarts < _RESTARTS:
                raise StartOverError
            left = [job_id for job_id in left if job_id not in changes]
        return changes

    async def abort_run(self, run_id: str) -> list[Change]:
        """See `QueueStorage.abort_run`."""
        topics: set[str] = set()

        async def work(transaction: Transaction) -> list[Change]:
            topics.clear()
            rows = await transaction.fetch(self._statements["unfinished_of_run"], (pack_text(run_id),))
            ids = [row[0] for row in rows]
            changes = await self._change(transaction, "abort", ids, False, topics)
            return [changes[job_id] for job_id in ids]

        changes = await self._database.transact(work)
        self._ring(topics)
        return [change for change in changes if change.before not in FINISHED and change.before is not None]

    async def clear(self, queue: str) -> int:
        """See `QueueStorage.clear`; of what is added meanwhile nothing is removed."""
        topics: set[str] = set()

        async def work(transaction: Transaction) -> int:
            topics.clear()
            ((now,),) = await transaction.fetch(self._statements["now"])
            removed = 0
            while True:
                rows: list[Any] = await transaction.fetch(
                    self._statements["in_queue"], (pack_text(queue), pack_moment(now), pack_int8(_CHUNK))
                )
                if not rows:
                    return removed
                ids = list({row[0] for row in rows})
                changes = await self._change(transaction, "delete", ids, False, topics)
                removed += sum(change.before is not None for change in changes.values())

        removed = await self._database.transact(work)
        self._ring(topics)
        return removed


def _concerned(change: Change, queue: str | None) -> set[str]:
    """Return whom a change concerns."""
    if change.asked:
        return {REQUEST_TOPIC}
    if change.before is change.after:
        return set()
    if change.after is None:
        return {FINISHED_TOPIC, REQUEST_TOPIC} if change.before is JobState.PROCESSING else {FINISHED_TOPIC}
    if change.after is JobState.PENDING:
        return {queue_topic(queue or "")}
    return {WAITING_TOPIC if change.after is JobState.SCHEDULED else FINISHED_TOPIC}
