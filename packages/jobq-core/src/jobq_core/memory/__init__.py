"""Storage in the memory of this process: for tests and small tools, and the reference for other storages."""

from jobq_core.memory.storage import MemoryQueueStorage

__all__ = ["MemoryQueueStorage"]
