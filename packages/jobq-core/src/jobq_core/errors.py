"""Every error that jobq raises, as one tree.

JobQueueError
├── JobError                        what a job ended with, or what a handler raises to say how it ends
│   ├── RetryableJobError           run again, at a time the handler chooses
│   ├── PermanentJobError           do not run again
│   ├── AbortSignalJobError         stopped because somebody asked for it
│   ├── JobDisabledError            put aside until somebody enables it
│   ├── JobTimeoutError             one run took longer than its timeout
│   ├── JobDeadlineError            not finished by its deadline
│   ├── WorkerLostError             the worker that ran it stopped giving signs of life
│   └── JobNotFoundError            no such job (any more)
├── InvalidJobError (ValueError)    refused where it entered; nothing was stored
├── ConfigurationError (ValueError) an option, a URL or a declaration that cannot work
├── JobStateError                   not possible for a job in this state
├── LeaseLostError                  the job belongs to another worker now
├── WaitTimeoutError (TimeoutError) the waiter's own patience ended; the job goes on
├── ClosedError                     used after it was closed, or closed while waiting
└── StorageError                    what the database said, kept as the cause
    ├── StorageUnavailableError     cannot be reached now; worth trying again
    │   └── StorageReadOnlyError    can be reached, and takes no writes; a client does not wait for that to change
    └── SchemaError                 the tables are missing, too old or too new
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from jobq_core.reprs import short_repr

CENTURY: Final = 100 * 366 * 86_400.0
"""Seconds: the longest time ahead, or kept, that anybody may name. What lies beyond no storage could reckon with."""


def _is_delay(seconds: object) -> bool:
    return isinstance(seconds, (int, float)) and 0 <= seconds <= CENTURY


class JobQueueError(Exception):
    """Base of every error of jobq."""


class JobError(JobQueueError):
    """A job did not complete.

    `type_name` is the qualified name of the exception that the handler raised, where it is not known
    in this process and so could not be raised as itself.
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
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
        if seconds is not None and not _is_delay(seconds):
            raise ValueError(
                f"RetryableJobError: delay must be 0 seconds or more, and at most 100 years, not {short_repr(delay)}"
            )
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
    """Fail the job at once, whatever attempts are left."""


class AbortSignalJobError(JobError):
    """The job was asked to stop, and did."""


class JobDisabledError(JobError):
    """The job is disabled: it keeps its place in the storage and does not run until it is enabled."""


class JobTimeoutError(JobError):
    """One run of the job took longer than its timeout."""


class JobDeadlineError(JobError):
    """The job's deadline passed before it was done."""


class WorkerLostError(JobError):
    """The worker that ran the job stopped giving signs of life."""


class JobNotFoundError(JobError):
    """There is no job with this id: it never was, was deleted, or was pruned after its retention."""


class InvalidJobError(JobQueueError, ValueError):
    """A job, one of its arguments or one of its options cannot be stored; nothing was."""


class ConfigurationError(JobQueueError, ValueError):
    """An option, a URL or a declaration that cannot work."""


class JobStateError(JobQueueError):
    """The operation is not possible for a job in its present state."""


class LeaseLostError(JobQueueError):
    """The write named a lease that is over: the job belongs to another worker, or to none."""


class WaitTimeoutError(JobQueueError, TimeoutError):
    """The waiter's own time limit passed; the job itself goes on."""


class ClosedError(JobQueueError):
    """The client, worker, server or storage is closed."""


class StorageError(JobQueueError):
    """The storage failed; the driver's own error is the cause."""


class StorageUnavailableError(StorageError):
    """The storage cannot be reached or did not answer in time; the same call may succeed later."""


class StorageReadOnlyError(StorageUnavailableError):
    """The storage takes no writes: a standby, a database or a file that was made read-only.

    A client raises it at once, for it is mostly a wrong address. A worker goes on trying, as in any outage.
    """


class SchemaError(StorageError):
    """The storage's tables are missing, older or newer than this code can work with."""
