"""Run a pool of workers, or a whole queue in one object."""

from jobq_server.autoscaling import Autoscaler, ScalingStats, simulate
from jobq_server.modes import QueueMode, QueueModeError
from jobq_server.queue import JobQueue
from jobq_server.server import JobQueueServer
from jobq_server.stats import ServerStats
from jobq_server.web_options import WebOptions
from jobq_worker import PoolOptions, PoolStats

__all__ = [
    "Autoscaler",
    "JobQueue",
    "JobQueueServer",
    "PoolOptions",
    "PoolStats",
    "QueueMode",
    "QueueModeError",
    "ScalingStats",
    "ServerStats",
    "WebOptions",
    "simulate",
]
