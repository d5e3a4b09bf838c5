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

        Raises StorageError; the slice is then repeated.
        """
        if self._operation is None:
            self._operation = await self._find()
            if self._operation is None:
                return None
        operation = await work(self._storage, self._operation, slice=SLICE)
        if operation.state is OperationState.RUNNING:
            self._operation = operation
        else:
            self._operation = None
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
