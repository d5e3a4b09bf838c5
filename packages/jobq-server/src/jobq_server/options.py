"""The options of a server and of a JobQueue: those of `jobq_worker.WorkerOptions`, in the server's words."""

from __future__ import annotations

from jobq_worker.options import PoolOptions

__all__ = ["PoolOptions"]
