"""The operators' facet of the storage: changing jobs, whatever their state.

A statement sees the tables as they were when it began. A job that is moved meanwhile is found in no table: its row was
locked where it was, and is gone from there once the lock is free. So each operation runs its statement until every job
was found in some state or is in no table at all, in one transaction. If a job moved while the transaction held locks,
the operation starts over: to wait again with locks in hand could deadlock with another operation.

Two operations do not deadlock, as every statement locks rows in one order: `waiting`, `ready`, `running`, `outcome`
(the order in which its last SELECT reads them), in each table by id, and unique keys after all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

from jobq_core.states import FINISHED, JobState
from jobq_core.storage import Change, OperatorStorage
from jobq_storage_postgres.binary import int4s, pack_int8, pack_moment, pack_text, uuids
from jobq_storage_postgres.engine import Facet
from jobq_storage_postgres.topics import topics_of_change
from jobq_storage_postgres.transaction import StartOverError, Transaction

_CHUNK: Final = 5000
"""Number of jobs that one statement changes."""

_RESTARTS: Final = 30
"""How often an operation starts over for jobs that moved; then it goes on with the rows that it has locked."""


class Control(Facet, OperatorStorage):
    """Aborts, disables, enables, retries and deletes jobs."""

    async def abort(self, ids: Sequence[UUID]) -> list[Change]:
        return await self._change("abort", ids)

    async def retry(self, ids: Sequence[UUID]) -> list[Change]:
        return await self._change("retry", ids, ordered=True)

    async def disable(self, ids: Sequence[UUID]) -> list[Change]:
        return await self._change("disable", ids)

    async def enable(self, ids: Sequence[UUID]) -> list[Change]:
        return await self._change("enable", ids, ordered=True)

    async def delete(self, ids: Sequence[UUID]) -> list[Change]:
        return await self._change("delete", ids)

    async def _change(self, operation: str, ids: Sequence[UUID], *, ordered: bool = False) -> list[Change]:
        """Run an operation on jobs. ordered: whether its statement takes their order in the batch."""
        if not ids:
            return []
        topics: set[str] = set()

        async def work(transaction: Transaction) -> dict[UUID, Change]:
            topics.clear()
            return await self._change_within(transaction, operation, list(dict.fromkeys(ids)), ordered, topics)

        changes = await self._engine.database.transact(work)
        self._engine.notifier.notify(topics)
        answers: list[Change] = []
        for job_id in ids:
            change = changes[job_id]
            answers.append(change)
            # A repeated id is changed once; there is nothing to withdraw the second time.
            changes[job_id] = Change(job_id, change.after, change.after, change.asked and operation != "enable")
        return answers

    async def _change_within(
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
            for job_id, before, after, asked, queue in await transaction.fetch(
                self._engine.statements[operation], params
            ):
                change = Change(
                    job_id,
                    None if before is None else JobState(before),
                    None if after is None else JobState(after),
                    asked,
                )
                changes[job_id] = change
                topics.update(topics_of_change(change, queue))
            moved = any(job_id not in changes for job_id in batch)
            if moved and changes and transaction.restarts < _RESTARTS:
                raise StartOverError
            left = [job_id for job_id in left if job_id not in changes]
        return changes

    async def abort_run(self, run_id: str, *, on_progress: Callable[[int], object] | None = None) -> list[Change]:
        topics: set[str] = set()

        async def work(transaction: Transaction) -> list[Change]:
            topics.clear()
            rows = await transaction.fetch(self._engine.statements["unfinished_of_run"], (pack_text(run_id),))
            ids = [row[0] for row in rows]
            changes = await self._change_within(transaction, "abort", ids, False, topics)
            return [changes[job_id] for job_id in ids]

        changes = await self._engine.database.transact(work)
        self._engine.notifier.notify(topics)
        return [change for change in changes if change.before not in FINISHED and change.before is not None]

    async def clear(self, queue: str, *, on_progress: Callable[[int], object] | None = None) -> int:
        # Jobs that are added meanwhile are kept.
        topics: set[str] = set()

        async def work(transaction: Transaction) -> int:
            topics.clear()
            ((now,),) = await transaction.fetch(self._engine.statements["now"])
            removed = 0
            while True:
                rows: list[Any] = await transaction.fetch(
                    self._engine.statements["in_queue"], (pack_text(queue), pack_moment(now), pack_int8(_CHUNK))
                )
                if not rows:
                    return removed
                ids = list({row[0] for row in rows})
                changes = await self._change_within(transaction, "delete", ids, False, topics)
                removed += sum(change.before is not None for change in changes.values())

        removed = await self._engine.database.transact(work)
        self._engine.notifier.notify(topics)
        return removed
