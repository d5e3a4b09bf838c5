"""What a server says about itself and about everybody else at work on its storage."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import attrs

from jobq_core.records import WorkerRecord, WorkerStats
from jobq_core.states import JobState
from jobq_worker import SlotStats


@attrs.frozen(kw_only=True)
class PoolStats:
    """What one server's workers did since it was made: through stops, restarts and changes of their number.

    total: the sums over all workers that it has and had, with the jobs of unknown kinds; its `average_seconds` weighs
        each run alike, whichever worker ran it.
    workers: each worker of the present pool, numbered from 1, with what it did and what it runs now. A number that
        went when the pool shrank starts anew when it grows; what it did before is in the total.
    """

    total: WorkerStats
    workers: tuple[SlotStats, ...]


@attrs.frozen(kw_only=True)
class ServerStats:
    """A server's pool, and all workers and queues of its storage.

    at: when this was read, by the storage's clock.
    pool: this server's own.
    workers: every worker process that the storage knows, oldest first, this server's pool as one of them; a process
        whose `expires_at` has passed is lost, and goes when its jobs have been taken back. The numbers of others are
        as old as their last heartbeat, `beat_at`.
    total: the sums over this server's pool and the other processes in `workers`.
    counts: how many jobs each queue has in each state.
    """

    at: datetime
    pool: PoolStats
    workers: tuple[WorkerRecord, ...]
    total: WorkerStats
    counts: Mapping[str, Mapping[JobState, int]]
