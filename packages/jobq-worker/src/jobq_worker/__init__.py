"""Claim and run jobq jobs."""

from jobq_worker.health import WorkerHealth, WorkerState
from jobq_worker.logs import JobLogFilter
from jobq_worker.options import PoolOptions, ServingOptions, WorkerKeywords, WorkerOptions
from jobq_worker.processes.exits import ExitCode
from jobq_worker.processes.retirement import Retired
from jobq_worker.running.slots import PoolStats, SlotStats
from jobq_worker.worker import JobQueueWorker

__all__ = [
    "ExitCode",
    "JobLogFilter",
    "JobQueueWorker",
    "PoolOptions",
    "PoolStats",
    "Retired",
    "ServingOptions",
    "SlotStats",
    "WorkerHealth",
    "WorkerKeywords",
    "WorkerOptions",
    "WorkerState",
]
