"""`LeftOperations`: goes on with bulk operations that the process which started them has left behind."""

from __future__ import annotations

import logging

from jobq_core.errors import ConfigurationError
from jobq_core.operations import SLICE, left_behind, work
from jobq_core.storage import Operation, OperationState, QueueStorage

logger = logging.getLogger("jobq.worker")


class LeftOperations:
    """Works off one operation at a time, oldest first, in slices."""

    def __init__(self, storage: QueueStorage) -> None:
        self._storage = storage
        self._operation: Operation | None = None

    async def work(self) -> float | None:
        """Work off the next slice, if there is one; return 0 if there is more to do, or else None.

        Raises StorageError; the operation is then looked for again.
        """
        operation, self._operation = self._operation or await self._find(), None
        if operation is None:
            return None
        operation, is_saved = await work(self._storage, operation, slice=SLICE)
        if operation.state is OperationState.RUNNING:
            # What another process works on too is left to that one.
            self._operation = operation if is_saved else None
        else:
            logger.info(
                "operation %s (%s), which was interrupted, is %s: %d jobs, %d changed, %d refused",
                operation.id,
                operation.action,
                operation.state,
                operation.done,
                operation.changed,
                operation.refused,
            )
        return 0.0

    def forget(self) -> None:
        """Leave the operation to another worker, which does the maintenance now."""
        self._operation = None

    async def _find(self) -> Operation | None:
        try:
            found = await left_behind(self._storage)
        except ConfigurationError:
            return None  # a storage without operations
        if not found:
            return None
        first = found[0]
        logger.info("continuing operation %s (%s) of %s, which was interrupted", first.id, first.action, first.actor)
        return first
