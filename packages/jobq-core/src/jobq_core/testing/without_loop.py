"""Memory storage without an event loop: none of its operations waits for anything."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol, TypeAlias, TypeVar

from jobq_core.errors import ConfigurationError
from jobq_core.memory import MemoryQueueStorage
from jobq_core.storage import QueueStorage

T = TypeVar("T")


class _Client(Protocol):
    """A client, while it runs."""

    @property
    def storage(self) -> QueueStorage:
        """The open storage."""
        ...


HasStorage: TypeAlias = "_Client | QueueStorage"
"""A running client (`JobQueueClient`, `SyncJobQueueClient` or `JobQueue`), or the open storage itself."""


def memory_of(client: HasStorage) -> MemoryQueueStorage:
    """Return the storage of a client, or the storage itself; raises ConfigurationError unless it is memory storage."""
    storage = client if isinstance(client, QueueStorage) else client.storage
    if not isinstance(storage, MemoryQueueStorage):
        raise ConfigurationError(
            f"jobq_core.testing needs a client on memory storage, not on a {type(storage).__qualname__}"
        )
    return storage


def run_to_end(operation: Coroutine[Any, Any, T]) -> T:
    """Run an operation of the memory storage, and return what it returns. Works beside a running event loop."""
    try:
        operation.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    operation.close()
    raise RuntimeError("an operation of the memory storage waited")
