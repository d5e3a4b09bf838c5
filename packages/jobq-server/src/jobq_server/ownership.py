"""A storage and whose it is: one that was given by URL is opened and closed by whoever got it, an object never."""

from __future__ import annotations

from jobq_core.storage import QueueStorage
from jobq_core.urls import as_storage


class Holding:
    """Holds a storage; `open` and `close` do nothing to one that is the caller's. Both may be called twice."""

    def __init__(self, storage: QueueStorage | str) -> None:
        self._owned = isinstance(storage, str)
        # Made from its URL here already, so that a wrong one is refused where it is written.
        self.storage = as_storage(storage)

    @classmethod
    def owning(cls, storage: QueueStorage) -> Holding:
        """Hold a storage that was made for the holder alone."""
        held = cls(storage)
        held._owned = True
        return held

    async def open(self) -> None:
        """Open what is owned. Raises as `QueueStorage.open` does."""
        if self._owned:
            await self.storage.open()

    async def close(self) -> None:
        """Close what is owned."""
        if self._owned:
            await self.storage.close()
