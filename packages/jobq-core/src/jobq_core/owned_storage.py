"""`OwnedStorage`: a storage, and whether to open and close it.

A storage given by URL belongs to the client, worker or queue that was given the URL, which opens and closes it. A
storage object belongs to its caller.
"""

from __future__ import annotations

import os

from jobq_core.storage import QueueStorage
from jobq_core.urls import as_storage, open_storage


class OwnedStorage:
    """Opens and closes a storage given by URL; does neither to a storage object, unless `owned`.

    storage: a URL, a QueueStorage, or None for the URL in the environment variable JOBQ_STORAGE.
    owned: whether a storage object is opened and closed too (default False).

    Raises ConfigurationError for a URL that cannot work.
    """

    def __init__(self, storage: QueueStorage | str | None, *, owned: bool = False) -> None:
        self._pid = 0
        self._owned = owned or not isinstance(storage, QueueStorage)
        self.storage: QueueStorage = open_storage() if storage is None else as_storage(storage)

    async def open(self) -> None:
        """Open the storage if it is owned. Raises as `QueueStorage.open` does."""
        if self._owned:
            if self._pid not in (0, os.getpid()):
                await self.storage.close()  # the parent process opened it
            self._pid = os.getpid()
            await self.storage.open()

    async def close(self) -> None:
        """Close the storage if it is owned."""
        if self._owned:
            await self.storage.close()
