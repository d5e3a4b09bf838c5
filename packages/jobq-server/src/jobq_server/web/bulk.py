"""`BulkWork`: works off the bulk operations that were started here.

What is left when the process ends, a worker goes on with: the operation is stored, and says how far it is.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from jobq_core.errors import JobQueueError
from jobq_core.operations import work_to_end
from jobq_core.storage import Operation, QueueStorage

logger = logging.getLogger("jobq.web")

AT_A_TIME: Final = 2
"""Operations that are worked on at a time; others wait."""
MAX_WAITING: Final = 100
"""Of more operations than this, the further ones are left to the workers."""


class BulkWork:
    """The operations that this process works on."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(AT_A_TIME)

    def begin(self, storage: QueueStorage, operation: Operation) -> None:
        """Work off an operation in the background."""
        if len(self._tasks) < MAX_WAITING:
            task = asyncio.create_task(self._work(storage, operation))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop after what is being done; a worker goes on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, storage: QueueStorage, operation: Operation) -> None:
        async with self._slots:
            try:
                await work_to_end(storage, operation)
            except JobQueueError as error:
                logger.warning("operation %s is left to the workers: %s", operation.id, error)
