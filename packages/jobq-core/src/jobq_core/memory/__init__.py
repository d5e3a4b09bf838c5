"""Storage in this process's memory: for tests and small tools, and the reference for other storages."""

from jobq_core.memory.storage import MemoryQueueStorage

__all__ = ["MemoryQueueStorage"]
