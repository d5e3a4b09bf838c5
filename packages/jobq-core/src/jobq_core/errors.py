"""Every error that jobq raises, as one tree.

JobQueueError
├── JobError                        how a job ended, or what a handler raises to end it
│   ├── RetryableJobError           run again, at a time that the handler chooses
│   ├── PermanentJobError           do not run again
│   ├── BatchError                  some jobs of a batch failed, each with its own error
│   ├── Snooze                      run again later; this run does not count
│   ├── AbortSignalJobError         stopped on request
│   ├── JobDisabledError            kept back until it is enabled
│   ├── JobTimeoutError             one run took longer than its timeout
│   ├── JobDeadlineError            not finished by its deadline
│   ├── WorkerLostError             its worker missed its heartbeat, or its process died
│   ├── UnfitArgumentsError         its arguments do not fit this process's declaration
│   └── JobNotFoundError            no such job, or no longer
├── InvalidJobError (ValueError)    refused on entry; nothing was stored
├── ConfigurationError (ValueError) an option, a URL or a declaration that cannot work
├── UniqueKeyBusyError              an open transaction of another session holds the unique key
├── JobStateError                   not possible in the state of the job
├── LeaseLostError                  the job belongs to another worker now
├── WaitTimeoutError (TimeoutError) the time limit of a wait passed; the job continues
├── ClosedError                     used while closed, or closed during a wait
└── StorageError                    the database failed; the cause is the driver's error
    ├── StorageUnavailableError     cannot be reached now; a later call may succeed
    │   └── StorageReadOnlyError    refuses writes; a client does not retry
    └── SchemaError                 the tables are missing, too old or too new
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from jobq_core.reprs import short_repr

CENTURY: Final = 100 * 366 * 86_400.0
"""The longest time, in seconds, that an option takes: 100 years. No storage could compute with longer ones."""


def _seconds(delay: object, error: str) -> float:
    """Return the seconds of a delay; raises ValueError, naming the error that it was given to, out of range."""
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if not isinstance(seconds, (int, float)) or not 0 <= seconds <= CENTURY:
        raise ValueError(f"{error}: delay must be 0 seconds or more, and at most 100 years, not {short_repr(delay)}")
    return seconds


class JobQueueError(Exception):
    """The base of all errors of jobq."""


class JobError(JobQueueError):
    """A job did not complete.

    type_name: the qualified name of the exception that the handler raised, if this process does not know that exception
        and so cannot raise it.
    """

    type_name: str | None = None


class RetryableJobError(JobError):
    """Run the job again after `delay` or at `retry_at`, while attempts are left.

    delay: seconds or a timedelta, from 0 to 100 years (default: the backoff decides); the attribute holds seconds.
    retry_at: an aware datetime in the years 1 to 9999 of UTC. Excludes delay.

    Raises ValueError for both, and for values out of range.
    """

    def __init__(
        self, message: str = "", *, delay: float | timedelta | None = None, retry_at: datetime | None = None
    ) -> None:
        super().__init__(message)
        if delay is not None and retry_at is not None:
            raise ValueError("give RetryableJobError a delay or a retry_at, not both")
        seconds = None if delay is None else _seconds(delay, "RetryableJobError")
        if retry_at is not None:
            if not isinstance(retry_at, datetime):
                raise ValueError(f"RetryableJobError: retry_at must be an aware datetime, not {short_repr(retry_at)}")
            if retry_at.utcoffset() is None:
                raise ValueError("RetryableJobError: retry_at needs a time zone, as datetime.now(UTC) has")
            try:
                retry_at.astimezone(UTC)
            except OverflowError:
                raise ValueError(f"RetryableJobError: no storage could keep the retry_at {retry_at}") from None
        self.delay = seconds
        self.retry_at = retry_at


class PermanentJobError(JobError):
    """Fail the job immediately, even if attempts are left."""


class BatchError(JobError):
    """Raised by a batch handler of which some jobs failed. Each job is settled by its own error or result.

    errors: what each failed job failed with, by its index in the handler's list, from 0. The error decides about the
        job's retry, as if a handler of that job alone had raised it.
    results: the results of the batch in order, those of failed jobs being ignored (default: None for each job).
    """

    def __init__(self, errors: Mapping[int, BaseException], results: Sequence[Any] | None = None) -> None:
        super().__init__(f"{len(errors)} jobs failed: {', '.join(map(str, errors))}")
        self.errors = dict(errors)
        self.results = results


class Snooze(JobError):  # noqa: N818 - not an error: the handler asks to run later
    """Run the job again after `delay`; this run does not count as an attempt.

    delay: seconds or a timedelta, from 0 to 100 years; the attribute holds seconds. Raises ValueError out of range.
    """

    def __init__(self, delay: float | timedelta) -> None:
        super().__init__(f"run again in {delay}")
        self.delay = _seconds(delay, "Snooze")


class AbortSignalJobError(JobError):
    """The job was asked to stop, and stopped."""


class JobDisabledError(JobError):
    """The job is disabled: it stays in the storage and does not run until it is enabled."""


class JobTimeoutError(JobError):
    """One run of the job took longer than its timeout."""


class JobDeadlineError(JobError):
    """The job did not finish by its deadline."""


class WorkerLostError(JobError):
    """The worker that ran the job missed its heartbeat, or the process that ran the handler died."""


class UnfitArgumentsError(JobError):
    """The stored arguments of the job do not fit this process's declaration of its kind."""


class JobNotFoundError(JobError):
    """No job has this id: it was never added, was deleted, or was pruned after its retention."""


class InvalidJobError(JobQueueError, ValueError):
    """A job, one of its arguments or one of its options cannot be stored. Nothing was stored."""


class ConfigurationError(JobQueueError, ValueError):
    """An option, a URL or a declaration that cannot work."""


class UniqueKeyBusyError(JobQueueError):
    """An open transaction of another session holds the unique key of a job. The message names the key and, where the
    storage knows it, the session. The job was not stored or retried; the same call may succeed later.

    queue, key: the unique key and its queue, if the storage knows them.
    """

    def __init__(self, message: str = "", *, queue: str | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.queue = queue
        self.key = key


class JobStateError(JobQueueError):
    """The operation is not possible in the present state of the job."""


class LeaseLostError(JobQueueError):
    """The lease of a write was lost: the job belongs to another worker, or to no worker."""


class WaitTimeoutError(JobQueueError, TimeoutError):
    """The time limit of a wait passed. The job itself continues."""


class ClosedError(JobQueueError):
    """The client, worker, server or storage is closed."""


class StorageError(JobQueueError):
    """The storage failed. The driver's error is the cause."""


class StorageUnavailableError(StorageError):
    """The storage cannot be reached, or did not answer in time. The same call may succeed later."""


class StorageReadOnlyError(StorageUnavailableError):
    """The storage refuses writes: it is a standby, or a database or a file that was made read-only.

    A client raises this immediately, because the usual cause is a wrong address. A worker retries, as in any outage.
    """


class SchemaError(StorageError):
    """The tables of the storage are missing, or this code cannot work with their version."""
