"""`QueueStorage`: the only door to the data. These docstrings are the contract that every storage keeps, word for word;
`jobq_core.testing.StorageContract` holds them to it.

What holds for every operation:

- It takes and returns batches; answers stand in the order of what was asked. An empty batch costs nothing.
- It is one transaction: all of it happened, or none. Where it raises it is none, unless the connection broke or the
  time limit passed during the commit or right after it: then the caller can't know. So each can be sent again: `add` by
  the job's id, settlements by the lease, the rest by being idempotent.
- A caller that is cancelled leaves no transaction open; the operation itself may still take effect.
- Driver errors never escape: StorageUnavailableError for what may go away, StorageError for the rest, the driver's
  error as the cause. Nothing waits for ever: each call has a time limit and raises StorageUnavailableError when it
  passes.
- Time is the storage's own clock. A `When` is a moment (aware datetime) or seconds from the storage's now.
- After its commit it rings the doorbell for whoever the change concerns (see `subscribe`).
"""

from __future__ import annotations

import abc
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, ClassVar, Literal, Self
from uuid import UUID

import attrs
from msgspec import Struct

from jobq_core.checks import is_number
from jobq_core.errors import CENTURY, ConfigurationError
from jobq_core.records import ErrorRecord, JobRecord, Progress, WorkerInfo, WorkerRecord, WorkerStats
from jobq_core.reprs import short_repr
from jobq_core.secret import show_without
from jobq_core.states import Ending, JobState, StopRequest

When = datetime | float
"""A moment (aware datetime), or seconds from the storage's now."""

FINISHED_TOPIC = "finished"
"""Some job completed, failed, was aborted, disabled or deleted: `get_status` at those you wait for."""
PROGRESS_TOPIC = "progress"
"""Some running job reported progress."""
REQUEST_TOPIC = "request"
"""Some running job was asked to stop, or was taken from its worker: see `check_leases`."""
WAITING_TOPIC = "waiting"
"""A job was added to, or put back among, those that wait for a time: see `promote`."""


def queue_topic(queue: str) -> str:
    """Return the topic that rings when a job of this queue becomes PENDING."""
    return f"queue:{queue}"


UNKNOWN_KIND = "unknown kind"
"""The reason of a job that a worker handed back because it has no handler for it."""


# Values whose fields are neither checked nor converted are msgspec.Structs: attrs takes 0.2 ms to make a class, at each
# program's start, and three times as long for each value. What is made for every job that passes (gc=False) would be
# most of the garbage collector's work too, which need not look at it.


class NewJob(Struct, frozen=True, kw_only=True, gc=False):
    """A job to add. arguments: JSON as UTF-8 bytes, checked by `jobq_core.encoding`. backoff: JSON of a Backoff, or
    None."""

    id: UUID
    queue: str
    kind: str
    arguments: bytes
    priority: int = 0
    run_at: When | None = None
    deadline: When | None = None
    timeout: float | None = None
    max_attempts: int = 10
    backoff: bytes | None = None
    unique_key: str | None = None
    run_id: str | None = None
    tags: tuple[str, ...] = ()
    fingerprint: bytes | None = None

    def __repr__(self) -> str:
        return show_without(self, "arguments", "fingerprint")


class Added(Struct, frozen=True, gc=False):
    """The answer to one NewJob: the id that now stands for it, and whether this call made it."""

    id: UUID
    created: bool


class ClaimedJob(Struct, eq=False, gc=False):
    """A job that this worker now owns, under `lease`. deadline_in: seconds left, by the storage's clock, when
    claimed."""

    id: UUID
    lease: int
    queue: str
    kind: str
    arguments: bytes
    attempt: int
    max_attempts: int
    priority: int = 0
    timeout: float | None = None
    deadline_in: float | None = None
    backoff: bytes | None = None
    run_id: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def needs_start_mark(self) -> bool:
        """Whether to call `QueueStorage.mark_started` before its run: it is not the first of several attempts."""
        return self.attempt > 1 or self.attempt >= self.max_attempts

    def __repr__(self) -> str:
        return show_without(self, "arguments")


class Settlement(Struct, eq=False, gc=False):
    """How one run ended. result: JSON, for COMPLETE. error: for FAIL, RETRY, ABORT, DISABLE.

    when: for RETRY and RELEASE, when the job may run again (None or past: at once); it becomes the job's `run_at` if
        the job becomes SCHEDULED or BLOCKED, and is dropped if a request to stop leads it elsewhere.
    reason: why, kept as the job's `reason` (None: the usual one of its state, see JobRecord); dropped with COMPLETE.
    """

    id: UUID
    lease: int
    ending: Ending
    result: bytes | None = None
    error: ErrorRecord | None = None
    when: When | None = None
    reason: str | None = None

    def __repr__(self) -> str:
        return show_without(self, "result")


class Claim(Struct, frozen=True):
    """A wish for up to `limit` jobs: those of the first queue before those of the second, and so on."""

    queues: tuple[str, ...]
    limit: int


class SettleAndClaimResult(Struct, frozen=True):
    """settled: the state each settlement led to, None where its lease was over. alive: False if the worker is not
    registered or its heartbeat expired (nothing was claimed then); true to that without a `claim` too."""

    settled: list[JobState | None]
    claimed: list[ClaimedJob]
    alive: bool = True


class ProgressReport(Struct, frozen=True, kw_only=True):
    """How far a running job is, named by its lease."""

    id: UUID
    lease: int
    progress: Progress


class LeaseStatus(Struct, frozen=True):
    """Whether a lease is still held, and what its job was asked to do meanwhile."""

    held: bool
    request: StopRequest | None = None


class Change(Struct, frozen=True):
    """What an operation did to one job: its state before (None: no such job) and after.

    asked: the job is PROCESSING and what it is asked to do was changed: it was asked to stop, so its state follows
    later, or a request to disable it was taken back.
    """

    id: UUID
    before: JobState | None
    after: JobState | None
    asked: bool = False

    @property
    def changed(self) -> bool:
        """Whether anything happened, or will."""
        return self.asked or self.before is not self.after


class JobStatus(Struct, frozen=True, kw_only=True):
    """What a waiter needs of a job: little, so that thousands can be read at once. Result and error as in JobRecord."""

    id: UUID
    kind: str
    queue: str
    state: JobState
    attempt: int
    progress: Progress
    worker: UUID | None = None
    result_json: bytes | None = None
    error: ErrorRecord | None = None

    def __repr__(self) -> str:
        return show_without(self, "result_json")


# Functions with types of their own: mypy loses the types of `frozenset` and `tuple` as converters.
def _state_set(states: Iterable[JobState]) -> frozenset[JobState]:
    return frozenset(states)


def _words(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(words)


@attrs.frozen(kw_only=True)
class JobFilter:
    """Which jobs to find: all that is given must hold. states, kinds: any of them; tags: all of them."""

    queue: str | None = None
    states: frozenset[JobState] = attrs.field(default=frozenset(), converter=_state_set)
    kinds: tuple[str, ...] = attrs.field(default=(), converter=_words)
    tags: tuple[str, ...] = attrs.field(default=(), converter=_words)
    run_id: str | None = None


class Page(Struct, frozen=True):
    """Jobs, newest first, and where the next page starts (None: this was the last)."""

    jobs: list[JobRecord]
    cursor: UUID | None


class Retention(Struct, frozen=True, kw_only=True):
    """How long finished jobs of a queue are kept, in seconds after their end. 0: not at all; None: for ever.

    Raises ConfigurationError for what is no number from 0 to 100 years.
    """

    completed: float | None = 86_400.0
    failed: float | None = 14 * 86_400.0
    aborted: float | None = 86_400.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            kept = getattr(self, name)
            if kept is not None and (not is_number(kept) or not 0 <= kept <= CENTURY):
                raise ConfigurationError(
                    f"Retention: {name} must be from 0 seconds to 100 years, or None for ever, not {short_repr(kept)}"
                )


class Leadership(Struct, frozen=True):
    """Whether this worker leads the maintenance, and in how many seconds the present lease ends unless renewed."""

    leads: bool
    expires_in: float


class Promotion(Struct, frozen=True):
    """How many jobs became PENDING, and in how many seconds the next one is due (None: none waits for a time)."""

    promoted: int
    next_in: float | None


class RescuedJob(Struct, frozen=True, kw_only=True):
    """A job taken back from a lost worker, and the state it went to. attempt: how many count by now."""

    id: UUID
    kind: str
    queue: str
    attempt: int
    state: JobState


class LostWorker(Struct, frozen=True, kw_only=True):
    """A worker that stopped giving signs of life `silent_for` seconds ago, and the jobs taken back from it.

    name is empty and silent_for 0 where only its jobs were found, the worker itself being gone already.
    """

    worker: UUID
    name: str
    silent_for: float
    jobs: list[RescuedJob]


class Heartbeat(abc.ABC):
    """A worker's heartbeat. Its methods are synchronous and are called from a thread of their own, never the event
    loop, over a connection of its own, so that neither a busy loop nor a busy pool stops it."""

    @abc.abstractmethod
    def beat(self, stats: WorkerStats) -> bool:
        """Renew the worker's row for another `lost_after` seconds and store its statistics.

        Returns False if the worker is not registered (any more): it was taken for lost, and its jobs belong to others.
        A row that expired and that nobody has taken for lost yet is renewed. Raises StorageError; a later beat connects
        again.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Give up the connection. May be called twice."""


class Subscription(abc.ABC):
    """An ear at the doorbell, from `async with storage.subscribe(topics)`."""

    @abc.abstractmethod
    async def wait(self, timeout: float | None = None) -> frozenset[str]:
        """Wait until one of the topics rings and return all that rang since the last call; empty after `timeout`
        seconds.

        Rings are coalesced and may be lost (a listener reconnecting) or come without cause: look at the data, and look
        from time to time without being rung. A ring between two calls is not lost. Raises ClosedError when the storage
        closes.
        """

    @abc.abstractmethod
    async def __aenter__(self) -> Self: ...

    @abc.abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class QueueStorage(abc.ABC):
    """Where jobs live. Open it with `async with`, or `open()` and `close()`; doing either twice is fine, and a closed
    storage can be opened again. Before `open()` and after `close()`, calls on the data raise ClosedError; `migrate`,
    `migration_sql` and `url` work. One object belongs to one event loop; many clients and workers may share it."""

    schemes: ClassVar[tuple[str, ...]] = ()
    """The URL schemes that `open_storage` opens with this class."""

    @classmethod
    @abc.abstractmethod
    def from_url(cls, url: str) -> Self:
        """Make a storage from a URL, without connecting. Raises ConfigurationError for a URL that cannot work."""

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """Where it is, with no password in it."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What keeps an open storage from its promises and is its administrator's to mend; a sentence each."""
        return ()

    # Life

    @abc.abstractmethod
    async def open(self) -> None:
        """Connect and look at the schema. Raises StorageUnavailableError if there is no connection; SchemaError, naming
        `jobq migrate`, if the tables are missing or of a version that this code cannot work with.

        A storage whose user is its administrator too may make or update its tables here instead, as SQLite's does
        unless told not to; it applies 'pre' migrations only. After SchemaError or StorageUnavailableError the storage
        is as before, and may be opened later."""

    @abc.abstractmethod
    async def close(self) -> None:
        """End all subscriptions and connections. Operations under way are finished first."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @abc.abstractmethod
    async def migrate(self, phase: Literal["pre", "post", "all"] = "all") -> list[str]:
        """Bring the schema up to date and return the names of the migrations applied, in order.

        Works on a storage that is not open. Numbered files, checked by checksum, under a lock: two at once apply each
        migration once. 'pre' migrations are safe while older code runs, 'post' ones are not. Raises SchemaError for an
        applied migration whose text changed.
        """

    @abc.abstractmethod
    def migration_sql(self) -> str:
        """Return all migrations as SQL that a database administrator can read and run; empty for storages without
        SQL."""

    @abc.abstractmethod
    async def now(self) -> datetime:
        """Return the storage's clock."""

    # Submitting

    @abc.abstractmethod
    async def add(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Added]:
        """Store jobs, all or none. A job whose `run_at` lies ahead is SCHEDULED, else PENDING, in the order given.

        A job whose id is there already is left as it is and answered with created=False: adding can be repeated, while
        the job is kept: one that arrives after its job was deleted or pruned adds it anew. So is
        a job whose (queue, unique_key) belongs to a job that has not finished, with that job's id; also within one
        batch. With `connection`, the jobs are added in that connection's own transaction: they are there for others
        when it commits, never if it rolls back, and their doorbell rings at the commit or not at all. Raises
        ConfigurationError for a connection of a kind or to a database that this storage cannot use.
        """

    # The hot path

    @abc.abstractmethod
    async def settle_and_claim(
        self, worker: UUID, settlements: Sequence[Settlement] = (), claim: Claim | None = None
    ) -> SettleAndClaimResult:
        """Settle finished runs and claim the next jobs, in one transaction.

        Settling: a settlement changes nothing unless the job is PROCESSING under just this lease; then the job goes to
        `jobq_core.states.state_after(…)`. One that took effect already (the answer was lost) is answered by the state
        it led to, whatever was done to the job since (promoted, aborted, retried by hand), until it is claimed again
        or deleted; then by None. COMPLETE keeps the result; FAIL and ABORT end the job; every ending but COMPLETE and
        RELEASE appends an AttemptRecord where it has an error. RELEASE gives the attempt back. What the job was asked
        to do is over with the settlement. A finished job's unique key is free.

        Claiming: only PENDING jobs of the named queues; in each queue by priority (higher first), then by the order of
        becoming PENDING, then by the order of adding. Each becomes PROCESSING under a new lease number, greater than
        any before, its attempt counted. No job is claimed by two. Nothing else about the job is looked at: not its
        kind, not its deadline. A worker that is not registered, or whose heartbeat expired, claims nothing and gets
        alive=False; its settlements count as long as their leases do.

        Where it raises, both may have taken effect: what settlements led to before may be looked up after the commit.
        Settlements that are sent again are answered by the state they led to; `recover_claims` finds what was claimed.
        """

    @abc.abstractmethod
    async def mark_started(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[bool]:
        """Note that the runs of these (job id, lease) begin; False where the lease is over, or another worker's: that
        job must not be run. Once noted a run stays so.

        It tells `rescue` which of a lost worker's jobs had run: a worker holds more jobs than it runs at a time, and
        one that never ran must not have spent its last attempt. To be called before a run where `needs_start_mark`, no
        earlier than it is about to start. The first of several attempts needs no note and counts from its claim on: so
        most runs cost no write for it, and a lost worker costs a job that it never ran one attempt at most.
        """

    @abc.abstractmethod
    async def check_leases(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[LeaseStatus]:
        """Say of each (job id, lease) whether this worker still has it, and what the job was asked to do. A lease that
        is over, or another worker's, is not held."""

    @abc.abstractmethod
    async def recover_claims(self, worker: UUID, leases: Collection[int]) -> list[ClaimedJob]:
        """Return the jobs that are PROCESSING for this worker under leases other than these: claimed by an exchange
        whose answer never came. Reads only."""

    @abc.abstractmethod
    async def progress(self, worker: UUID, reports: Sequence[ProgressReport]) -> list[bool]:
        """Store how far running jobs are; False where the lease is over (nothing is stored then)."""

    # Control. Each answers with a Change per id; an id that is not there gives before=None, after=None. Said of several
    # jobs, 'at the end of the line' leaves open in which order these stand among themselves.

    @abc.abstractmethod
    async def abort(self, ids: Sequence[UUID]) -> list[Change]:
        """Abort jobs wherever they are: at once while they wait or are PENDING; a PROCESSING job is asked to
        (asked=True). A finished job is left alone. A job that moves meanwhile is not missed. An abort
        takes the place of a request to disable."""

    @abc.abstractmethod
    async def abort_run(self, run_id: str) -> list[Change]:
        """Abort every job submitted under this run, as `abort` does; finished ones are left out of the answer."""

    @abc.abstractmethod
    async def retry(self, ids: Sequence[UUID]) -> list[Change]:
        """Put FAILED and ABORTED jobs back: PENDING at the end of the line, all attempts anew, the history kept.
        Others are left alone, as is a job whose unique key belongs to another one by now."""

    @abc.abstractmethod
    async def disable(self, ids: Sequence[UUID]) -> list[Change]:
        """Put jobs aside as DISABLED: at once while they wait or are PENDING; a PROCESSING job is asked to stop
        (asked=True), unless it was asked to abort already, which stands. Finished ones are left alone."""

    @abc.abstractmethod
    async def enable(self, ids: Sequence[UUID]) -> list[Change]:
        """Make DISABLED jobs PENDING, at the end of the line, or SCHEDULED if their `run_at` still lies ahead; and
        take back a request to disable from a PROCESSING one (asked=True). Others are left alone. A job that was
        disabled in its last attempt may run once more, beyond `max_attempts`: whoever enables it wants that."""

    @abc.abstractmethod
    async def delete(self, ids: Sequence[UUID]) -> list[Change]:
        """Remove jobs in any state, with their history (after=None). A running one's lease is over: its worker is
        told."""

    @abc.abstractmethod
    async def clear(self, queue: str) -> int:
        """Remove all jobs of a queue, in any state; returns how many."""

    # Reading

    @abc.abstractmethod
    async def get(self, ids: Sequence[UUID]) -> list[JobRecord | None]:
        """Return all that is known of each job."""

    @abc.abstractmethod
    async def find(self, filter: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        """Return the jobs that match, newest id first, those after (older than) `after`; attempts are included."""

    @abc.abstractmethod
    async def counts(self, queue: str | None = None) -> Mapping[str, Mapping[JobState, int]]:
        """Count jobs by queue and state; a named queue is always in the answer, with all eight states."""

    @abc.abstractmethod
    async def get_status(self, ids: Sequence[UUID]) -> list[JobStatus | None]:
        """Return what waiters need of each job, in one query however many."""

    @abc.abstractmethod
    async def output_for(self, queue: str, kind: str, fingerprint: bytes) -> JobStatus | None:
        """Return the newest (by id) COMPLETED job of this queue and kind that was added with this fingerprint."""

    # Workers

    @abc.abstractmethod
    async def register(self, worker: WorkerInfo) -> None:
        """Make a worker known, alive from now for `lost_after` seconds. Jobs that are BLOCKED as UNKNOWN_KIND, of its
        queues and of a kind it knows, become PENDING, in any order. The same id again renews it: info and heartbeat are
        the new ones, `started_at` and the statistics stay."""

    @abc.abstractmethod
    def heartbeat(self, worker: WorkerInfo) -> Heartbeat:
        """Return the heartbeat of a registered worker; it connects at its first beat."""

    @abc.abstractmethod
    async def deregister(self, worker: UUID) -> None:
        """Forget a worker that stopped. It must have settled all it held; what it still holds is found by `rescue`."""

    @abc.abstractmethod
    async def workers(self) -> list[WorkerRecord]:
        """Return the registered workers, oldest first, expired ones too until they are rescued from."""

    # Maintenance: harmless if two do it at once, done by one to save work

    @abc.abstractmethod
    async def lead(self, worker: UUID, term: float) -> Leadership:
        """Take or renew the lease on maintenance for `term` seconds, if it is free, over, or this worker's already."""

    @abc.abstractmethod
    async def resign(self, worker: UUID) -> None:
        """Give the lease on maintenance up, if this worker has it."""

    @abc.abstractmethod
    async def promote(self, limit: int = 1000) -> Promotion:
        """Make up to `limit` SCHEDULED and BLOCKED jobs whose `run_at` has come PENDING, in the order of `run_at`,
        those of one `run_at` in the order of adding if they wait since then. DISABLED jobs stay. If `limit` were
        promoted, next_in may be 0."""

    @abc.abstractmethod
    async def rescue(self) -> list[LostWorker]:
        """Forget the workers whose heartbeat expired and take back what they held, and any PROCESSING job whose worker
        is not registered. Such a job gets an AttemptRecord with a WorkerLostError and becomes: ABORTED or DISABLED if
        it was asked to; FAILED if its attempts are spent; else PENDING, at the end of the line. One whose run should
        have been noted by `mark_started` and was not never ran: it gets its attempt back and no AttemptRecord or error,
        as if it had been handed back. Only lost workers that are met for the first time, or held jobs, are in the
        answer; of two callers at once, each worker and job is in one answer."""

    @abc.abstractmethod
    async def set_retention(self, retention: Mapping[str, Retention]) -> None:
        """Store how long each queue keeps its finished jobs; the last word counts. A queue never named keeps them as
        `Retention()` says."""

    @abc.abstractmethod
    async def prune(self, limit: int = 10_000) -> int:
        """Remove up to `limit` finished jobs, with their history, whose retention is over; returns how many. Nothing
        else removes jobs by age: with a retention of 0 they are gone at the next prune."""

    # Doorbell

    @abc.abstractmethod
    def subscribe(self, topics: Iterable[str]) -> Subscription:
        """Listen for topics: `queue_topic(…)` and the *_TOPIC constants. Enter it with `async with`."""
