"""`OwnedStorage`: a storage, and who opens and closes it.

A storage that was given by URL belongs to the client, worker or queue that got the URL, which opens and closes it. A
storage object belongs to the caller.
"""

from __future__ import annotations

from jobq_core.storage import QueueStorage
from jobq_core.urls import as_storage, open_storage


class OwnedStorage:
    """Opens and closes a storage that was given by URL; leaves a storage object alone.

    storage: a URL, None for the URL in the environment variable JOBQ_STORAGE, or a QueueStorage. Raises
    ConfigurationError for a URL that cannot work, here already, so that the mistake is reported where it was made.
    """

    def __init__(self, storage: QueueStorage | str | None, *, owned: bool = False) -> None:
        self._owned = owned or not isinstance(storage, QueueStorage)
        self.storage: QueueStorage = open_storage() if storage is None else as_storage(storage)

    async def open(self) -> None:
        """Open the storage if it is owned. Raises as `QueueStorage.open` does."""
        if self._owned:
            await self.storage.open()

    async def close(self) -> None:
        """Close the storage if it is owned."""
        if self._owned:
            await self.storage.close()
