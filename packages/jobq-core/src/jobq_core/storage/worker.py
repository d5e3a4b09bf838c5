"""The facet of workers: registering, claiming jobs and settling their runs."""

from __future__ import annotations

import abc
from collections.abc import Collection, Sequence
from uuid import UUID

from msgspec import Struct

from jobq_core.records import ErrorRecord, Progress, WorkerInfo
from jobq_core.secret import show_without
from jobq_core.states import Ending, JobState, StopRequest
from jobq_core.storage.heartbeat import Heartbeat
from jobq_core.timestamps import When

UNKNOWN_KIND = "unknown kind"
"""The reason of a job that a worker handed back because it has no handler for it."""


class ClaimedJob(Struct, eq=False, gc=False):
    """A job that this worker now owns, under `lease`, with a field for each thing that its run needs.

    deadline_in: seconds left until the deadline when the job was claimed, by the storage's clock.
    """

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
        """Whether to call `WorkerStorage.mark_started` before the run: it is not the first of several attempts."""
        return self.attempt > 1 or self.attempt >= self.max_attempts

    def __repr__(self) -> str:
        return show_without(self, "arguments")


class Settlement(Struct, eq=False, gc=False):
    """How one run ended.

    result: JSON, for COMPLETE.
    error: for FAIL, RETRY, ABORT and DISABLE.
    when: for RETRY and RELEASE, when the job may run again; None or past means at once. It becomes the job's `run_at`
        if the job becomes SCHEDULED or BLOCKED, and is dropped if a request to stop leads the job elsewhere.
    reason: kept as the job's `reason`; None for the usual one of its state (see JobRecord). Dropped with COMPLETE.
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
    """A request for up to `limit` jobs: those of the first queue before those of the second, and so on."""

    queues: tuple[str, ...]
    limit: int


class SettleAndClaimResult(Struct, frozen=True):
    """The answer of `settle_and_claim`.

    settled: the state that each settlement led to; None where its lease was over.
    alive: False if the worker is not registered or its heartbeat expired; then nothing was claimed. Also correct for a
        call without a `claim`.
    """

    settled: list[JobState | None]
    claimed: list[ClaimedJob]
    alive: bool = True


class ProgressReport(Struct, frozen=True, kw_only=True):
    """The progress of a running job, which its lease names."""

    id: UUID
    lease: int
    progress: Progress


class LeaseStatus(Struct, frozen=True):
    """Whether a lease is still held, and what its job was asked to do meanwhile."""

    held: bool
    request: StopRequest | None = None


class WorkerStorage(abc.ABC):
    """What a worker does with a storage: it claims jobs and settles their runs, and shows that it is alive."""

    # Claiming and settling

    @abc.abstractmethod
    async def settle_and_claim(
        self, worker: UUID, settlements: Sequence[Settlement] = (), claim: Claim | None = None
    ) -> SettleAndClaimResult:
        """Settle finished runs and claim the next jobs, in one transaction.

        Settling: a settlement changes nothing unless the job is PROCESSING under exactly this lease; then the job goes
        to `jobq_core.states.state_after(…)`. A settlement that took effect before (its answer was lost) is answered
        with the state it led to, whatever was done to the job since (promoted, aborted, retried by hand), until the job
        is claimed again or deleted; then with None. COMPLETE keeps the result. FAIL and ABORT end the job. Every ending
        but COMPLETE and RELEASE appends an AttemptRecord if it has an error. RELEASE gives the attempt back. A
        settlement ends any request to stop. The unique key of a finished job is free.

        Claiming: only PENDING jobs of the named queues; in each queue by priority (higher first), then in the order in
        which they became PENDING, then in the order in which they were added. Each becomes PROCESSING under a new lease
        number, greater than any before, and its attempt is counted. No two workers claim the same job. Nothing else of
        the job is considered: not its kind, not its deadline. A worker that is not registered, or whose heartbeat
        expired, claims nothing and gets alive=False; its settlements count as long as their leases do.

        If it raises, both may have taken effect: the states of earlier settlements may be read after the commit.
        Settlements that are sent again are answered with the state they led to; `recover_claims` returns the claimed
        jobs.
        """

    @abc.abstractmethod
    async def mark_started(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[bool]:
        """Record that the runs of these (job id, lease) begin. False where the lease is over or another worker's: that
        job must not be run. A recorded start stays recorded.

        The record shows `rescue` which jobs of a lost worker had run: a worker holds more jobs than it runs at a time,
        and a job that never ran must not have spent its last attempt. Call it before a run where `needs_start_mark`,
        and no earlier than just before the start. The first of several attempts needs no record and counts from its
        claim on. So most runs need no such write, and a lost worker costs a job that never ran one attempt at most.
        """

    @abc.abstractmethod
    async def check_leases(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[LeaseStatus]:
        """Return for each (job id, lease) whether this worker still holds it, and what the job was asked to do. A lease
        that is over, or another worker's, is not held."""

    @abc.abstractmethod
    async def recover_claims(self, worker: UUID, leases: Collection[int]) -> list[ClaimedJob]:
        """Return the jobs that are PROCESSING for this worker under leases other than these: they were claimed by a
        `settle_and_claim` whose answer was lost. Reads only."""

    @abc.abstractmethod
    async def progress(self, worker: UUID, reports: Sequence[ProgressReport]) -> list[bool]:
        """Store the progress of running jobs. False where the lease is over; nothing is stored for it."""

    # Registration

    @abc.abstractmethod
    async def register(self, worker: WorkerInfo) -> None:
        """Register a worker, alive from now for `lost_after` seconds.

        Jobs that are BLOCKED as UNKNOWN_KIND, in the worker's queues and of a kind that it knows, become PENDING, in
        any order. The same id again renews the registration: its info and heartbeat are replaced; `started_at` and the
        statistics stay.
        """

    @abc.abstractmethod
    def heartbeat(self, worker: WorkerInfo) -> Heartbeat:
        """Return the heartbeat of a registered worker. It connects at its first beat."""

    @abc.abstractmethod
    async def deregister(self, worker: UUID) -> None:
        """Remove a worker that stopped. It must have settled all it held; `rescue` finds what it still holds."""
