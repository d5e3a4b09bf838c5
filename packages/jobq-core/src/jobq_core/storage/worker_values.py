"""The values of the facet of workers: what a worker sends with `settle_and_claim`, and what it is answered."""

from __future__ import annotations

from typing import Final, Self
from uuid import UUID

from msgspec import Struct

from jobq_core.errors import LeaseLostError
from jobq_core.records import ErrorRecord, Progress
from jobq_core.secret import show_without
from jobq_core.states import Ending, JobState, StopRequest
from jobq_core.storage.producer import NewJob
from jobq_core.timestamps import When

GATED: Final = "gated"
"""The reason of a gated job that is BLOCKED until `KeeperStorage.admit` frees it."""
UNKNOWN_KIND: Final = "unknown kind"
"""The reason of a job that is BLOCKED because a worker has no handler for its kind."""
UNFIT_ARGUMENTS: Final = "arguments do not fit"
"""The reason of a job that is BLOCKED because a worker's declaration of its kind does not take its arguments."""
REFUSED_LIMIT: Final = 20
"""How many of the declarations that refused a job are kept, the last ones."""


class ClaimedJob(Struct, eq=False, gc=False):
    """A job that this worker now owns, under `lease`, with a field for each thing that its run needs.

    deadline_in: seconds left until the deadline when the job was claimed, by the storage's clock.
    meta: the job's headers, a JSON object, or None.
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
    meta: bytes | None = None

    @property
    def needs_start_mark(self) -> bool:
        """Whether to call `WorkerStorage.mark_started` before the run: it is not the first of several attempts."""
        return self.attempt > 1 or self.attempt >= self.max_attempts

    def __repr__(self) -> str:
        return show_without(self, "arguments", "meta")


class Settlement(Struct, eq=False, gc=False):
    """How one run ended.

    result: JSON, for COMPLETE; None keeps no result.
    error: for FAIL, RETRY, ABORT and DISABLE.
    when: for RETRY, SNOOZE and RELEASE, when the job may run again; None or past means at once. It becomes the job's
        `run_at` if the job becomes SCHEDULED or BLOCKED, and is dropped if a request to stop leads the job elsewhere.
    reason: kept as the job's `reason`; None for the usual one of its state (see JobRecord). Dropped where the job
        becomes COMPLETED or PENDING.
    progress: the last progress that the run reported, or None if there is nothing newer than what is stored. Stored
        with the ending, whatever the ending is.
    jobs: jobs that the run added. They are stored, as `add` stores them, exactly if this settlement takes effect now.
    declaration: for SUSPEND as UNFIT_ARGUMENTS, the declaration that refused the job. Kept with the job, so that
        claims with this declaration leave the job BLOCKED.
    """

    id: UUID
    lease: int
    ending: Ending
    result: bytes | None = None
    error: ErrorRecord | None = None
    when: When | None = None
    reason: str | None = None
    progress: Progress | None = None
    jobs: tuple[NewJob, ...] = ()
    declaration: str | None = None

    def __repr__(self) -> str:
        return show_without(self, "result", "jobs")


def lease_lost(settlement: Settlement) -> LeaseLostError:
    """Return the error of `WorkerStorage.complete` for a run whose lease is over."""
    return LeaseLostError(
        f"job {settlement.id} cannot complete: this run's lease is over, and the job belongs to another worker or has "
        "ended; roll the transaction back"
    )


class Line(Struct, frozen=True):
    """A queue that a claim takes jobs from. limit: at most so many of this line's jobs (None: as many as the claim
    takes)."""

    queue: str
    limit: int | None = None


class Claim(Struct, frozen=True):
    """A request for up to `limit` jobs: those of the first line before those of the second, and so on.

    max_bytes: the claim ends before the job whose arguments would exceed this sum (None: no limit). At least one job is
        claimed, whatever its size.
    kinds: pairs of a kind and its declaration that the worker knows. Before the claim, jobs in its queues that are
        BLOCKED as UNKNOWN_KIND or UNFIT_ARGUMENTS and that the worker can take are freed, at most `limit`: see
        `settle_and_claim`.
    """

    lines: tuple[Line, ...]
    limit: int
    max_bytes: int | None = None
    kinds: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls,
        *queues: str,
        limit: int,
        max_bytes: int | None = None,
        kinds: tuple[tuple[str, str], ...] = (),
    ) -> Self:
        """Return a claim on whole queues: one line each, without a limit of its own."""
        return cls(tuple(map(Line, queues)), limit, max_bytes, kinds)

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues of the lines, in order."""
        return tuple([line.queue for line in self.lines])


class SettleAndClaimResult(Struct, frozen=True):
    """The answer of `settle_and_claim`.

    settled: the state that each settlement led to; None where its lease was over, and where `busy` names it.
    alive: False if the worker is not registered or its heartbeat expired; then nothing was claimed. Also correct for a
        call without a `claim`.
    busy: the indexes, ascending, of the settlements whose job another transaction held. Nothing happened to them: send
        them again.
    picked: how many entries the claim took from the lines. Entries whose job is gone are deleted and counted too, so
        that `picked` may exceed the number of claimed jobs. `picked` at the claim's limit says that there may be more.
    paused: the queues of the claim that are paused, in any order; nothing was claimed from them.
    freed: how many BLOCKED jobs the claim's `kinds` freed.
    more: whether `max_bytes` ended the claim before its limit.
    """

    settled: list[JobState | None]
    claimed: list[ClaimedJob]
    alive: bool = True
    busy: tuple[int, ...] = ()
    picked: int = 0
    paused: tuple[str, ...] = ()
    freed: int = 0
    more: bool = False


class ProgressReport(Struct, frozen=True, kw_only=True):
    """The progress of a running job, which its lease names."""

    id: UUID
    lease: int
    progress: Progress


class LeaseStatus(Struct, frozen=True):
    """Whether a lease is still held, and what its job was asked to do meanwhile."""

    held: bool
    request: StopRequest | None = None
