"""Errors that callers receive. Each caller gets its own: a shared one would gather the tracebacks of all."""

from __future__ import annotations

from uuid import UUID

from jobq_core.errors import JobNotFoundError, StorageUnavailableError


def own(error: Exception) -> Exception:
    """Return a copy of an error that several callers get, or the error itself if its type cannot be made again."""
    try:
        copy = type(error)(*error.args)
    except Exception:  # noqa: BLE001
        return error
    copy.__cause__ = error.__cause__ or error
    return copy


def unavailable(error: StorageUnavailableError, what: str) -> StorageUnavailableError:
    """Return the error of one caller that gave up; `what` says what became of its jobs."""
    said = StorageUnavailableError(f"{what}: {error}")
    said.__cause__ = error
    return said


def not_found(job_id: UUID) -> JobNotFoundError:
    """Return the error for a job that does not exist."""
    return JobNotFoundError(f"no job {job_id}: it was never added, was deleted, or was pruned after its retention")
