"""The operators' facet of the storage: changing jobs, whatever their state.

Each statement is a transaction of its own in one round trip, so a client that is paused holds no lock. It changes up to
`CHUNK` jobs. A statement sees the tables as they were when it began. A job that is moved meanwhile is found in no
table: its row was locked where it was, and is gone from there once the lock is free. So a statement runs again for the
jobs that it did not find, until every job was found in some state or is in no table at all.

Two statements do not deadlock, as each locks rows in one order: `waiting`, `ready`, `running`, `outcome` (the order in
which its last SELECT reads them), in each table by id, and unique keys after all of them. A row that another
transaction holds is waited for, as long as the session's lock timeout says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from jobq_core.states import FINISHED, JobState
from jobq_core.storage import Change, OperatorStorage, QueueOptions, QueueOwner, queue_topic
from jobq_storage_postgres.binary import (
    int4s,
    pack_bool,
    pack_float8,
    pack_int8,
    pack_moment,
    pack_text,
    pack_uuid,
    uuids,
)
from jobq_storage_postgres.engine import Facet
from jobq_storage_postgres.topics import topics_of_change

CHUNK: Final = 1000
"""Maximum number of jobs that one transaction changes."""


class Control(Facet, OperatorStorage):
    """Aborts, disables, enables, retries and deletes jobs, and sets options of queues."""

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

    async def abort_run(self, run_id: str, *, on_progress: Callable[[int], object] | None = None) -> list[Change]:
        changes: list[Change] = []
        after: UUID | None = None
        while True:
            rows = await self._engine.fetch(
                "unfinished_of_run",
                pack_text(run_id),
                None if after is None else pack_uuid(after),
                pack_int8(CHUNK),
            )
            if not rows:
                return changes
            after = rows[-1][0]
            changed = await self.abort([job_id for (job_id,) in rows])
            changes += [change for change in changed if change.before not in FINISHED and change.before is not None]
            if on_progress is not None:
                on_progress(len(changes))

    async def clear(self, queue: str, *, on_progress: Callable[[int], object] | None = None) -> int:
        # Jobs that are added meanwhile are kept.
        ((now,),) = await self._engine.fetch("now")
        removed = 0
        while True:
            rows = await self._engine.fetch("in_queue", pack_text(queue), pack_moment(now), pack_int8(CHUNK))
            if not rows:
                return removed
            changed = await self.delete(list({job_id for (job_id,) in rows}))
            removed += sum(change.before is not None for change in changed)
            if on_progress is not None:
                on_progress(removed)

    async def set_queue(self, queue: str, options: QueueOptions, owner: QueueOwner = "operator") -> None:
        paused = options.paused if owner == "operator" else None
        kept = options.retention
        if paused is None and kept is None:
            return
        seconds = (None, None, None) if kept is None else (kept.completed, kept.failed, kept.aborted)
        await self._engine.fetch(
            "set_queue",
            pack_text(queue),
            pack_text(owner),
            None if paused is None else pack_bool(paused),
            pack_bool(kept is not None),
            *(None if each is None else pack_float8(each) for each in seconds),
        )
        if paused is False:
            self._engine.notifier.notify([queue_topic(queue)])

    async def _change(self, operation: str, ids: Sequence[UUID], *, ordered: bool = False) -> list[Change]:
        """Run an operation on jobs. ordered: whether its statement takes their order in the batch."""
        changes: dict[UUID, Change] = {}
        order = {job_id: index for index, job_id in enumerate(dict.fromkeys(ids))}
        given = list(order)
        for start in range(0, len(given), CHUNK):
            chunk = sorted(given[start : start + CHUNK], key=lambda job_id: job_id.bytes)
            while chunk:
                params = [uuids([job_id.bytes for job_id in chunk])]
                if ordered:
                    params.append(int4s([order[job_id] for job_id in chunk]))
                changes.update(await self._change_once(operation, params))
                chunk = [job_id for job_id in chunk if job_id not in changes]
        answers: list[Change] = []
        for job_id in ids:
            change = changes[job_id]
            answers.append(change)
            # A repeated id is changed once; there is nothing to withdraw the second time.
            changes[job_id] = Change(job_id, change.after, change.after, change.asked and operation != "enable")
        return answers

    async def _change_once(self, operation: str, params: Sequence[bytes]) -> dict[UUID, Change]:
        changes: dict[UUID, Change] = {}
        topics: set[str] = set()
        for job_id, before, after, asked, queue in await self._engine.fetch(operation, *params):
            change = changes[job_id] = Change(
                job_id,
                None if before is None else JobState(before),
                None if after is None else JobState(after),
                asked,
            )
            topics.update(topics_of_change(change, queue))
        self._engine.notifier.notify(topics)
        return changes
