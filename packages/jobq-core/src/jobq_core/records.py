"""The values that are read from a storage: jobs, attempts, progress, workers and statistics."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct, field

from jobq_core.encoding import decode
from jobq_core.errors import JobDeadlineError, WorkerLostError
from jobq_core.masking import SECRETS, marked_secrets, mask
from jobq_core.parents import PARENT, parent_of
from jobq_core.secret import show_without
from jobq_core.states import JobState, StopRequest, is_finished


class ErrorRecord(Struct, frozen=True, kw_only=True):
    """The error of one run: the qualified name of the exception's type, its message, and its traceback as text."""

    type: str
    message: str
    traceback: str | None = None


def type_name(cls: type[BaseException]) -> str:
    """Return the name of an exception's type, with its module unless it is a builtin."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def worker_lost(worker: UUID | None, name: str) -> ErrorRecord:
    """Return the error of a run whose worker missed its heartbeat. name: empty if it is not known."""
    shown = f" {name!r}" if name else ""
    return ErrorRecord(type=type_name(WorkerLostError), message=f"worker{shown} ({worker}) missed its heartbeat")


def deadline_passed() -> ErrorRecord:
    """Return the error of a job whose deadline passed before it could start."""
    return ErrorRecord(type=type_name(JobDeadlineError), message="its deadline passed before it could start")


class Progress(Struct, frozen=True, kw_only=True):
    """The progress of a running job: percent from 0 to 100, a line of text, and details of any JSON type."""

    percent: float = 0.0
    message: str | None = None
    details: Any = None


class AttemptRecord(Struct, frozen=True, kw_only=True):
    """One run that did not complete. number: starts at 1, and at 1 again after a retry by hand."""

    number: int
    lease: int
    worker: UUID | None
    started_at: datetime
    finished_at: datetime
    error: ErrorRecord


class JobSummary(Struct, frozen=True, kw_only=True):
    """A job without its payloads, as `find` returns it. Times are aware datetimes of the storage's clock.

    attempt: the number of runs since the job was added or last retried by hand.
    run_at: when a SCHEDULED or BLOCKED job becomes PENDING; None if it waits for no time.
    reason: why the job is kept back: 'delayed' (SCHEDULED by its `run_at`), 'backoff' (SCHEDULED by a retry), 'snoozed'
        (SCHEDULED by its handler), 'gated', 'unknown kind', 'arguments do not fit', 'released' or the worker's own
        reason (BLOCKED), 'disabled'; or how it ended: 'aborted', 'worker lost'. None for all other jobs.
    stop_request: what a PROCESSING job was asked to do.
    worker, lease, started_at: of the present run, or of the last one.
    since: when the job came to its present state; None where it is not known.
    gated: whether the job waits to be admitted each time that it would become PENDING.
    followed: whether the end of the job is kept for others that wait for it.
    progress: without its details in a summary.
    error: without its traceback in a summary.
    """

    id: UUID
    kind: str
    queue: str
    state: JobState
    priority: int
    created_at: datetime
    run_at: datetime | None = None
    deadline: datetime | None = None
    timeout: float | None = None
    attempt: int = 0
    max_attempts: int = 10
    run_id: str | None = None
    tags: tuple[str, ...] = ()
    unique_key: str | None = None
    reason: str | None = None
    stop_request: StopRequest | None = None
    worker: UUID | None = None
    lease: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    since: datetime | None = None
    gated: bool = False
    followed: bool = False
    progress: Progress = field(default_factory=Progress)
    error: ErrorRecord | None = None

    @property
    def aborting(self) -> bool:
        """Whether the job is PROCESSING and was asked to abort."""
        return self.state is JobState.PROCESSING and self.stop_request is StopRequest.ABORT

    @property
    def finished(self) -> bool:
        """Whether the job is COMPLETED, FAILED or ABORTED."""
        return is_finished(self.state)


class JobRecord(JobSummary, frozen=True, kw_only=True):
    """The full record of one job, with a field for each stored value; the others are those of JobSummary.

    arguments_json, result_json and meta_json are the JSON as stored; `arguments`, `result` and `meta` are the same,
    decoded.
    attempts: the runs that did not complete, oldest first.
    """

    arguments_json: bytes
    result_json: bytes | None = None
    meta_json: bytes | None = None
    attempts: tuple[AttemptRecord, ...] = ()

    def __repr__(self) -> str:
        return show_without(self, "arguments_json", "result_json", "meta_json")

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments as plain JSON values, Secrets included: do not log them."""
        arguments: dict[str, Any] = decode(self.arguments_json)
        return arguments

    @property
    def result(self) -> Any:
        """The result as plain JSON values; None also before the job has completed (see `state`)."""
        return None if self.result_json is None else decode(self.result_json)

    @property
    def meta(self) -> dict[str, Any]:
        """The headers that travel with the job, as plain JSON values; empty if it has none."""
        stored = {} if self.meta_json is None else decode(self.meta_json)
        return {name: value for name, value in stored.items() if name not in (SECRETS, PARENT)}

    @property
    def parent(self) -> UUID | None:
        """The id of the job whose run added this one, or whose end it follows; None for a job that a client added."""
        return parent_of(self.meta_json)

    @property
    def shown_arguments(self) -> bytes:
        """The arguments as JSON, with a mask in place of what was declared as a Secret, or is named as secrets are."""
        return mask(self.arguments_json, marked_secrets(self.meta_json))

    @property
    def shown_headers(self) -> bytes:
        """The headers as JSON, with a mask in place of what is named as secrets are."""
        return mask(msgspec.json.encode(self.meta))


class WorkerStats(Struct, frozen=True, kw_only=True):
    """What a worker did since it started: the number of runs by ending, and the seconds spent in handlers.

    released: jobs that were released. snoozed: runs that asked to continue later. suspended: jobs that the worker could
    not run, BLOCKED until a worker can: unknown_kinds counts those of each kind that it has no handler for, unfit_kinds
    those whose arguments do not fit its declaration, by kind; of more than 100 kinds, the further ones as 'others'.
    hung: the number of handlers that keep running past their time limit. loop_lag: the longest time in seconds that the
    worker's event loop was blocked since the last heartbeat. `hears`: whether notifications of other processes
    arrive; a worker that gets none polls. limited: the seconds until its limiter opens; None if no limiter holds it
    back. memory: the bytes of memory of its process; 0 where they are not known. processor: the share of one processor
    that its process has used, or waited for on a busy machine, since the last heartbeat. slots: the number of slots
    that the worker has now; None where it is not known. awaiting_process: the ids of jobs that have a slot and wait for
    a handler process, the next one first; at most 1,000.
    """

    completed: int = 0
    failed: int = 0
    retried: int = 0
    aborted: int = 0
    disabled: int = 0
    released: int = 0
    snoozed: int = 0
    suspended: int = 0
    running: int = 0
    busy_seconds: float = 0.0
    hung: int = 0
    loop_lag: float = 0.0
    unknown_kinds: dict[str, int] = field(default_factory=dict)
    unfit_kinds: dict[str, int] = field(default_factory=dict)
    hears: bool = True
    limited: float | None = None
    memory: int = 0
    processor: float = 0.0
    slots: int | None = None
    awaiting_process: tuple[UUID, ...] = ()

    @property
    def finished(self) -> int:
        """The number of runs that ended, without those that were released."""
        return self.completed + self.failed + self.retried + self.aborted + self.disabled

    @property
    def average_seconds(self) -> float:
        """Mean seconds of one run; 0 before the first one ended."""
        return self.busy_seconds / self.finished if self.finished else 0.0

    def __add__(self, other: WorkerStats) -> WorkerStats:
        return WorkerStats(
            completed=self.completed + other.completed,
            failed=self.failed + other.failed,
            retried=self.retried + other.retried,
            aborted=self.aborted + other.aborted,
            disabled=self.disabled + other.disabled,
            released=self.released + other.released,
            snoozed=self.snoozed + other.snoozed,
            suspended=self.suspended + other.suspended,
            running=self.running + other.running,
            busy_seconds=self.busy_seconds + other.busy_seconds,
            hung=self.hung + other.hung,
            loop_lag=max(self.loop_lag, other.loop_lag),
            unknown_kinds=_sums(self.unknown_kinds, other.unknown_kinds),
            unfit_kinds=_sums(self.unfit_kinds, other.unfit_kinds),
            hears=self.hears and other.hears,
            limited=_longest(self.limited, other.limited),
            memory=self.memory + other.memory,
            processor=self.processor + other.processor,
            slots=_sum_known(self.slots, other.slots),
            awaiting_process=self.awaiting_process + other.awaiting_process,
        )


def _sums(one: dict[str, int], two: dict[str, int]) -> dict[str, int]:
    return {**one, **{kind: one.get(kind, 0) + count for kind, count in two.items()}}


def _sum_known(one: int | None, two: int | None) -> int | None:
    known = [number for number in (one, two) if number is not None]
    return sum(known) if known else None


def _longest(one: float | None, two: float | None) -> float | None:
    return max((seconds for seconds in (one, two) if seconds is not None), default=None)


def decode_stats(data: bytes | str) -> WorkerStats:
    """Decode statistics from JSON. Text that another program wrote and that does not fit gives empty statistics."""
    try:
        return msgspec.json.decode(data, type=WorkerStats)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return WorkerStats()


def decode_versions(data: bytes | str) -> dict[str, str]:
    """Decode the versions of a worker from JSON. Text that another program wrote and that does not fit gives none."""
    try:
        return msgspec.json.decode(data, type=dict[str, str])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}


class WorkerInfo(Struct, frozen=True, kw_only=True):
    """A worker process, as it registers itself.

    id: a new UUID at each start, so that a restarted process is never taken for its predecessor.
    concurrency: the number of its slots when it registered; `WorkerRecord.slots` is the present one.
    lost_after: seconds without a heartbeat after which other workers may rescue its jobs.
    versions: of Python and of the distributions that it works with, by name.
    """

    id: UUID
    name: str
    host: str
    pid: int
    queues: tuple[str, ...]
    kinds: tuple[str, ...]
    concurrency: int
    lost_after: float
    versions: dict[str, str] = field(default_factory=dict)


class WorkerRecord(Struct, frozen=True, kw_only=True):
    """A registered worker. expires_at: when it counts as lost unless its heartbeat is renewed."""

    info: WorkerInfo
    started_at: datetime
    beat_at: datetime
    expires_at: datetime
    stats: WorkerStats

    @property
    def slots(self) -> int:
        """The number of its slots: as of its last heartbeat, or when it registered if no heartbeat said it."""
        return self.info.concurrency if self.stats.slots is None else self.stats.slots

    def is_alive(self, at: datetime) -> bool:
        """Whether its heartbeat has not expired at this moment of the storage's clock."""
        return self.expires_at > at
