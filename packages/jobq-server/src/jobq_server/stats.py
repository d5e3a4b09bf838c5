"""`ServerStats`: what a server reports on itself and on all workers and queues of its storage."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import attrs

from jobq_core.records import WorkerRecord, WorkerStats
from jobq_core.states import JobState
from jobq_server.autoscaling.scaling import ScalingStats
from jobq_worker import PoolStats


@attrs.frozen(kw_only=True)
class ServerStats:
    """A server's pool, and all workers and queues of its storage.

    at: when this was read, by the storage's clock.
    pool: the server's own pool.
    workers: every worker process that the storage knows, oldest first, this server's pool included. A process whose
        `expires_at` has passed is lost, and is removed when its jobs have been rescued. The counts of other processes
        are those of their last heartbeat, at `beat_at`.
    total: the sums over this server's pool and the other processes in `workers`.
    counts: the number of jobs of each queue in each state.
    scaling: what the server's Autoscaler does; None without one. With processes, what it does to their number; None if
        that stays.
    """

    at: datetime
    pool: PoolStats
    workers: tuple[WorkerRecord, ...]
    total: WorkerStats
    counts: Mapping[str, Mapping[JobState, int]]
    scaling: ScalingStats | None = None
