"""Noting in the storage that runs begin, for those that are not the first of several attempts (see `needs_start_mark`).

What waits while one call is under way goes with the next, so that many runs share a write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jobq_core.storage import QueueStorage
from jobq_worker.membership import Membership
from jobq_worker.run import Run
from jobq_worker.trouble import Trouble


class Beginnings:
    """Asks the storage for one run after another that is about to start, and passes the answers on.

    on_answer: told of a run and whether its lease stands; not of one that is over by then.
    """

    def __init__(
        self, storage: QueueStorage, membership: Membership, trouble: Trouble, on_answer: Callable[[Run, bool], None]
    ) -> None:
        self._storage = storage
        self._membership = membership
        self._trouble = trouble
        self._on_answer = on_answer
        self._waiting: list[Run] = []
        self._bell = asyncio.Event()

    def ask(self, run: Run) -> None:
        """Have it noted that this run begins."""
        self._waiting.append(run)
        self._bell.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            while self._waiting:
                try:
                    await self._ask()
                except Exception as error:  # noqa: BLE001  (logged by Trouble; this loop never ends by itself)
                    await asyncio.sleep(self._trouble.failed("mark_started", error))
            self._trouble.fine("mark_started")

    async def _ask(self) -> None:
        runs = [run for run in self._waiting if not run.over]
        self._waiting = []
        if not runs:
            return
        try:
            stands = await self._storage.mark_started(
                self._membership.id, [(run.job.id, run.job.lease) for run in runs]
            )
        except BaseException:
            self._waiting[:0] = runs
            raise
        for run, held in zip(runs, stands, strict=True):
            if not run.over:
                self._on_answer(run, held)
