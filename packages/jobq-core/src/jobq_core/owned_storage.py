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
    deferred: whether a URL from the environment may be missing until `storage` is read (default False).

    Raises ConfigurationError for a URL that cannot work, and for None without a URL in the environment.
    """

    def __init__(self, storage: QueueStorage | str | None, *, owned: bool = False, deferred: bool = False) -> None:
        self._pid = 0
        self._owned = owned or not isinstance(storage, QueueStorage)
        self._storage: QueueStorage | None = None
        if storage is not None:
            self._storage = as_storage(storage)
        elif not deferred or os.environ.get("JOBQ_STORAGE"):
            self._storage = open_storage()

    @property
    def storage(self) -> QueueStorage:
        """The storage. Raises ConfigurationError where a deferred URL is missing."""
        if self._storage is None:
            self._storage = open_storage()
        return self._storage

    async def open(self) -> None:
        """Open the storage if it is owned. Raises as `QueueStorage.open` does."""
        if self._owned:
            if self._pid not in (0, os.getpid()):
                await self.storage.close()  # the parent process opened it
            self._pid = os.getpid()
            await self.storage.open()

    async def close(self) -> None:
        """Close the storage if it is owned."""
        if self._owned and self._storage is not None:
            await self._storage.close()
