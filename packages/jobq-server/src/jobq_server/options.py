"""The options that a server, and a JobQueue with a server in it, hand on to the engine of their pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from jobq_core.limiters import Limiter
from jobq_core.storage import Retention


class PoolOptions(TypedDict, total=False):
    """How a pool works; each is as `JobQueueWorker` has it.

    limiter: asked before jobs are claimed, by the pool as a whole (default: no limit).
    retention: how long finished jobs are kept: one Retention for all the pool's queues, or one per queue (default: as
        stored).
    heartbeat_interval: seconds between signs of life (default 10).
    lost_after: seconds without one after which others take its jobs back (default 30).
    poll_interval: seconds between looks for jobs when no bell rings (default 1).
    stop_timeout: seconds that running jobs have when it stops (default 30).
    """

    limiter: Limiter | None
    retention: Retention | Mapping[str, Retention] | None
    heartbeat_interval: float
    lost_after: float
    poll_interval: float
    stop_timeout: float
