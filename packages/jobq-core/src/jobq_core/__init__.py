"""What a job is, where it lives, and what happens to it: the part of jobq that every other part stands on."""

from jobq_core.context import JobContext
from jobq_core.errors import (
    AbortSignalJobError,
    ClosedError,
    ConfigurationError,
    InvalidJobError,
    JobDeadlineError,
    JobDisabledError,
    JobError,
    JobNotFoundError,
    JobQueueError,
    JobStateError,
    JobTimeoutError,
    LeaseLostError,
    PermanentJobError,
    RetryableJobError,
    SchemaError,
    StorageError,
    StorageUnavailableError,
    WaitTimeoutError,
    WorkerLostError,
)
from jobq_core.job import Job, JobDefinition, JobFunction, job
from jobq_core.records import AttemptRecord, ErrorRecord, JobRecord, Progress, WorkerInfo, WorkerRecord, WorkerStats
from jobq_core.registry import Registry
from jobq_core.retry import Backoff, RetryPolicy
from jobq_core.secret import Secret
from jobq_core.states import JobState, StopRequest
from jobq_core.storage import QueueStorage, Retention

__all__ = [
    "AbortSignalJobError",
    "AttemptRecord",
    "Backoff",
    "ClosedError",
    "ConfigurationError",
    "ErrorRecord",
    "InvalidJobError",
    "Job",
    "JobContext",
    "JobDeadlineError",
    "JobDefinition",
    "JobDisabledError",
    "JobError",
    "JobFunction",
    "JobNotFoundError",
    "JobQueueError",
    "JobRecord",
    "JobState",
    "JobStateError",
    "JobTimeoutError",
    "LeaseLostError",
    "PermanentJobError",
    "Progress",
    "QueueStorage",
    "Registry",
    "Retention",
    "RetryPolicy",
    "RetryableJobError",
    "SchemaError",
    "Secret",
    "StopRequest",
    "StorageError",
    "StorageUnavailableError",
    "WaitTimeoutError",
    "WorkerInfo",
    "WorkerLostError",
    "WorkerRecord",
    "WorkerStats",
    "job",
]
