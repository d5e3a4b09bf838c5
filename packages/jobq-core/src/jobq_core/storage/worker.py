"""The facet of workers: registering, claiming jobs and settling their runs."""

from __future__ import annotations

import abc
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from jobq_core.records import WorkerInfo
from jobq_core.storage.heartbeat import Heartbeat
from jobq_core.storage.worker_values import (
    Claim,
    ClaimedJob,
    LeaseStatus,
    ProgressReport,
    SettleAndClaimResult,
    Settlement,
)


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
        is claimed again or deleted; then with None. A settlement whose job another transaction holds is `busy`: nothing
        happens to it, and the call does not wait for it. COMPLETE keeps the result. FAIL and ABORT end the job. Every
        ending but COMPLETE, RELEASE, SNOOZE and SUSPEND appends an AttemptRecord if it has an error, whatever state it
        leads to. RELEASE, SNOOZE and SUSPEND give the attempt back, and so does a DISABLE whose request was withdrawn.
        A job that is given back at once (RELEASE, or DISABLE without its request) goes to the returned line of its
        queue, behind those given back before and in the order of the batch. A settlement stores its `progress` and its
        `jobs`, and ends any request to stop. The unique key of a finished job is free.

        Freeing: with `kinds`, jobs of the claim's queues are first freed, at most `limit`, to the returned line: those
        BLOCKED as UNKNOWN_KIND or UNFIT_ARGUMENTS whose kind is listed with a declaration that has not refused them
        (see `Settlement.declaration`), in each queue the oldest ids first. A gated job stays BLOCKED, now with the
        reason GATED.

        Claiming: only PENDING jobs of the claim's lines, and none of a paused queue; in each queue the returned line
        first, then by priority (higher first), then in the order in which they became PENDING, then in the order in
        which they were added. Each becomes PROCESSING under a new lease number, greater than any before, and its
        attempt is counted. No two workers claim the same job. Nothing else of the job is considered: not its kind, not
        its deadline. A worker that is not registered, or whose heartbeat expired, frees and claims nothing and gets
        alive=False; its settlements count as long as their leases do.

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

    @abc.abstractmethod
    async def complete(self, settlement: Settlement, *, connection: Any) -> None:
        """Settle one run as COMPLETE, and store its `jobs`, in the transaction of the caller's connection.

        Raises LeaseLostError, and writes nothing, unless the job is PROCESSING under exactly this lease. Until the
        transaction ends, the job is held: `settle_and_claim` answers `busy`, or waits. A settlement that is sent after
        the commit is answered with COMPLETED, whatever its ending.
        """

    # Registration

    @abc.abstractmethod
    async def register(self, worker: WorkerInfo) -> None:
        """Register a worker, alive from now for `lost_after` seconds.

        The same id again renews the registration: its info and heartbeat are replaced; `started_at` and the statistics
        stay.
        """

    @abc.abstractmethod
    def heartbeat(self, worker: WorkerInfo) -> Heartbeat:
        """Return the heartbeat of a registered worker. It connects at its first beat."""

    @abc.abstractmethod
    async def deregister(self, worker: UUID) -> None:
        """Remove a worker that stopped. It must have settled all it held; `rescue` finds what it still holds."""
