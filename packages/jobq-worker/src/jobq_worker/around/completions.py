"""`Completions`: what `JobContext.complete_in` does in a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from jobq_core.caller_thread import run_from_thread
from jobq_core.context import Nothing
from jobq_core.errors import ConfigurationError
from jobq_core.states import Ending
from jobq_core.storage import Settlement, WorkerStorage
from jobq_worker.running.run import Run


class Completions:
    """Writes the completions of runs in transactions of their handlers. Made on the event loop."""

    def __init__(self, storage: WorkerStorage) -> None:
        self._storage = storage
        self._loop = asyncio.get_running_loop()

    def complete(self, run: Run, connection: Any, result: Any) -> Awaitable[None]:
        """Write the completion of a run: awaited on the event loop, and at once in a thread, as that of a sync batch
        handler, whose runs are on the event loop."""
        if asyncio._get_running_loop() is self._loop:
            return self._write(run, connection, result)
        run_from_thread(self._write(run, connection, result), self._loop)
        return Nothing()

    async def _write(self, run: Run, connection: Any, result: Any) -> None:
        settlement = completion(run, result)
        before, run.written = run.written, settlement  # its lease may seem lost from now on
        try:
            await self._storage.complete(settlement, connection=connection)
        except BaseException:
            run.written = before
            raise
        note_written(run, settlement)


def completion(run: Run, result: Any) -> Settlement:
    """Return the completion of a run with this result. Raises InvalidJobError for one that cannot be stored."""
    encoded = run.handler.definition.encode_result(result)
    jobs = () if run.context is None else run.context.added_jobs
    settlement = Settlement(run.job.id, run.job.lease, Ending.COMPLETE, encoded, progress=run.progress, jobs=jobs)
    if run.handler.add_follow_up is not None:
        run.handler.add_follow_up(run, settlement)
    return settlement


def note_written(run: Run, settlement: Settlement) -> None:
    """Note that a completion was written in a transaction: the run can add no more jobs."""
    run.written = settlement
    if run.context is not None:
        run.context.take_added()


def refuse_in_process(connection: Any, result: Any) -> Awaitable[None]:
    """Stand for `complete` in a handler's process, which has no storage. Raises ConfigurationError."""
    raise ConfigurationError("complete_in works in async and thread handlers, not in one that runs in a process")
