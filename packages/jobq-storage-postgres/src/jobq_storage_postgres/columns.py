"""Jobs and settlements as the parameters of statements: one array per column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import json

from jobq_core.storage import NewJob, Settlement
from jobq_storage_postgres.binary import (
    byteas,
    float8s,
    int2s,
    int4s,
    int8s,
    jsons,
    moments,
    pack_float8,
    pack_int2,
    pack_int4,
    pack_moment,
    pack_text,
    text_array,
    texts,
    uuids,
)

GATED_FLAG: Final = 1
FOLLOWED_FLAG: Final = 2
FAILURE_FOLLOWED_FLAG: Final = 4


def pack_jobs(jobs: Sequence[NewJob]) -> list[bytes | None]:
    """Pack jobs as the parameters of `add`. Most columns are empty, or have one value for all jobs."""
    return [
        *_pack_varying(jobs),
        *_split_times([job.run_at for job in jobs]),
        *_split_times([job.deadline for job in jobs]),
        float8s.sparse([job.timeout for job in jobs]),
        jsons.sparse([job.backoff for job in jobs]),
        texts.sparse([job.unique_key for job in jobs]),
        texts.sparse([job.run_id for job in jobs]),
        texts.sparse([text_array(job.tags) if job.tags else None for job in jobs]),
        byteas.sparse([job.fingerprint for job in jobs]),
        jsons.sparse([job.meta for job in jobs]),
        int2s.sparse([_flags(job) or None for job in jobs]),
        jsons.sparse([job.follow_up for job in jobs]),
        *_pack_first(jobs[0]),
    ]


def _flags(job: NewJob) -> int:
    followed = 0 if job.follow_up is None else FAILURE_FOLLOWED_FLAG
    return job.gated * GATED_FLAG + job.followed * FOLLOWED_FLAG + followed


def pack_ready(jobs: Sequence[NewJob]) -> list[bytes | None]:
    """Pack jobs as the parameters of `add_ready`."""
    return [
        *_pack_varying(jobs),
        *_split_times([job.deadline for job in jobs]),
        float8s.sparse([job.timeout for job in jobs]),
        jsons.sparse([job.backoff for job in jobs]),
        texts.sparse([job.unique_key for job in jobs]),
        texts.sparse([job.run_id for job in jobs]),
        byteas.sparse([job.fingerprint for job in jobs]),
        jsons.sparse([job.meta for job in jobs]),
        *_pack_first(jobs[0]),
    ]


def _pack_varying(jobs: Sequence[NewJob]) -> list[bytes | None]:
    """Pack the columns in which every job has a value; a column of equal values is that of `_pack_first`."""
    return [
        uuids([job.id.bytes for job in jobs]),
        jsons([job.arguments for job in jobs]),
        _varying([job.queue for job in jobs], texts),
        _varying([job.kind for job in jobs], texts),
        _varying([job.priority for job in jobs], int2s),
        _varying([job.max_attempts for job in jobs], int2s),
    ]


def _pack_first(first: NewJob) -> list[bytes | None]:
    return [pack_text(first.queue), pack_text(first.kind), pack_int2(first.priority), pack_int2(first.max_attempts)]


def pack_job(job: NewJob) -> list[bytes | None]:
    """Pack a job as the parameters of `add_one`; its deadline is a moment."""
    deadline = job.deadline
    return [
        job.id.bytes,
        pack_text(job.queue),
        pack_text(job.kind),
        job.arguments,
        pack_int2(job.priority),
        pack_int2(job.max_attempts),
        None if job.timeout is None else pack_float8(job.timeout),
        job.backoff,
        None if job.run_id is None else pack_text(job.run_id),
        texts(job.tags) if job.tags else None,
        job.fingerprint,
        pack_moment(deadline) if isinstance(deadline, datetime) else None,
        pack_int4(len(job.arguments)),
        job.meta,
    ]


def pack_leases(settlements: Sequence[Settlement]) -> list[bytes | None]:
    """Pack the runs that settlements end: ids and leases."""
    return [uuids([s.id.bytes for s in settlements]), int8s([s.lease for s in settlements])]


def pack_completed(settlements: Sequence[Settlement]) -> list[bytes | None]:
    """Pack completions without progress as the parameters of `complete`."""
    return [*pack_leases(settlements), jsons.sparse([s.result for s in settlements])]


def _pack_progress(settlements: Sequence[Settlement]) -> Sequence[bytes | None]:
    reports = [s.progress for s in settlements]
    if reports.count(None) == len(reports):
        return None, None, None
    return (
        float8s([None if report is None else report.percent for report in reports]),
        texts.sparse([None if report is None else report.message for report in reports]),
        jsons.sparse(
            [None if report is None or report.details is None else json.encode(report.details) for report in reports]
        ),
    )


def pack_settlements(settlements: Sequence[tuple[int, Settlement]]) -> list[bytes | None]:
    """Pack settlements, each with its position in the batch, as the parameters of `settle`."""
    all_ = [s for _, s in settlements]
    whens = [s.when for s in all_]
    errors = [s.error for s in all_]
    return [
        *pack_leases(all_),
        int4s([index for index, _ in settlements]),
        texts([s.ending.value for s in all_]),
        jsons.sparse([s.result for s in all_]),
        texts.sparse([None if error is None else error.type for error in errors]),
        texts.sparse([None if error is None else error.message for error in errors]),
        texts.sparse([None if error is None else error.traceback for error in errors]),
        moments.sparse([when if isinstance(when, datetime) else None for when in whens]),
        float8s.sparse([None if isinstance(when, datetime) else when for when in whens]),
        texts.sparse([s.reason for s in all_]),
        *_pack_progress(all_),
        texts.sparse([s.declaration for s in all_]),
    ]


def _varying(values: list[Any], pack: Callable[[Sequence[object]], bytes]) -> bytes | None:
    """Pack a column, or return None if all its values are equal."""
    return None if values.count(values[0]) == len(values) else pack(values)


def _split_times(values: list[Any]) -> tuple[bytes | None, bytes | None]:
    """Pack moments and numbers of seconds as two columns."""
    if values.count(None) == len(values):
        return None, None
    return (
        moments.sparse([value if isinstance(value, datetime) else None for value in values]),
        float8s.sparse([None if isinstance(value, datetime) else value for value in values]),
    )
