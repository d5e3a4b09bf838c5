"""A model of the queue: a plain implementation of what the docstrings of `jobq_core.storage` promise.

It shares only argument and result types with the storages, so a mistake common to all storages shows too. Jobs are a
dict, the claim order is a sort, every operation is a few lines. Runs are numbered 1, 2, 3 … in place of leases. Where a
docstring leaves an order open, `open_order` lists the jobs in question.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from msgspec import Raw
from msgspec.structs import replace

from jobq_core.records import (
    AttemptRecord,
    ErrorRecord,
    JobRecord,
    JobSummary,
    Progress,
    WorkerInfo,
    WorkerRecord,
    WorkerStats,
)
from jobq_core.states import Ending, JobState, StopRequest
from jobq_core.storage import (
    AUDIT_DAYS,
    ENDED_TOPIC,
    FINISHED_TOPIC,
    GATED,
    PROGRESS_TOPIC,
    REQUEST_TOPIC,
    UNFIT_ARGUMENTS,
    UNKNOWN_KIND,
    WAITING_TOPIC,
    Action,
    Added,
    Change,
    Claim,
    ClaimedJob,
    EndedJob,
    Expired,
    FailedJob,
    JobFilter,
    JobStatus,
    Leadership,
    LeaseStatus,
    LostWorker,
    NewJob,
    Operation,
    OperationState,
    Page,
    ProgressReport,
    Promotion,
    QueueOptions,
    QueueOwner,
    RescuedJob,
    Retention,
    SettleAndClaimResult,
    Settlement,
    When,
    blocked_topic,
    queue_topic,
)

S = JobState
SUSPENDED = (UNKNOWN_KIND, UNFIT_ARGUMENTS)
DEADLINE_TYPE = "jobq_core.errors.JobDeadlineError"
OVER = (S.COMPLETED, S.FAILED, S.ABORTED)
UNCLAIMED = (S.SCHEDULED, S.BLOCKED, S.DISABLED, S.PENDING)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(eq=False)
class Known:
    """A job. Times are microseconds since 1970; `position` orders the jobs of a state, and those of the returned line
    (`returned`) stand before all others. refused: the declarations that refused it. new: as it was added, but for its
    queue and its priority, which are those of today; key_queue: the queue of its unique key."""

    new: NewJob
    key_queue: str
    created_at: int
    run_at: int | None
    deadline: int | None
    state: JobState
    position: int
    since: int = 0
    returned: bool = False
    refused: tuple[str, ...] = ()
    since_added: bool = True
    attempt: int = 0
    reason: str | None = None
    request: StopRequest | None = None
    worker: UUID | None = None
    run: int | None = None
    start_marked: bool = False
    settled_as: JobState | None = None
    started_at: int | None = None
    finished_at: int | None = None
    progress: Progress = field(default_factory=Progress)
    result: bytes | None = None
    error: ErrorRecord | None = None
    attempts: tuple[AttemptRecord, ...] = ()


@dataclass(eq=False)
class Registered:
    """A registered worker."""

    info: WorkerInfo
    started_at: int
    beat_at: int
    stats: WorkerStats = field(default_factory=WorkerStats)

    @property
    def expires_at(self) -> int:
        return self.beat_at + micros(self.info.lost_after)


class Model:
    """A queue with the operations of a QueueStorage. notified: topics notified since the set was last replaced."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.jobs: dict[UUID, Known] = {}
        self.known_workers: dict[UUID, Registered] = {}
        self.runs = 0
        self.notified: set[str] = set()
        self.open_order: list[UUID] = []
        self.ended: list[EndedJob] = []
        self._positions = 0
        self._leader: UUID | None = None
        self._leader_until = 0
        self._retention: dict[str, Retention] = {}
        self.bulk: dict[UUID, Operation] = {}
        """The bulk operations."""

    # What happens to a job

    def _line_up(self, job: Known) -> None:
        """Let a job wait for its time, if that is ahead, or make it ready."""
        if job.run_at is not None and job.run_at > self.now:
            self._enter(job, S.SCHEDULED, "delayed")
        else:
            self._ready(job)

    def _ready(self, job: Known, *, returned: bool = False) -> None:
        """Make a job PENDING, or let it wait at its gate."""
        if job.new.gated:
            job.run_at = None
            self._enter(job, S.BLOCKED, GATED)
        else:
            self._enter(job, S.PENDING, returned=returned)

    def _enter(self, job: Known, state: JobState, reason: str | None = None, *, returned: bool = False) -> None:
        self._positions += 1
        job.position, job.since_added = self._positions, False
        job.since, job.returned = self.now, returned
        job.state, job.reason, job.request = state, reason, None
        if state is S.PENDING:
            self.notified.add(queue_topic(job.new.queue))
        elif state not in (S.SCHEDULED, S.BLOCKED):
            self.notified.add(FINISHED_TOPIC)
        elif reason in SUSPENDED:
            self.notified.add(blocked_topic(job.new.queue))
        elif job.run_at is not None:
            self.notified.add(WAITING_TOPIC)
        if state in OVER:
            job.finished_at = self.now
            self._note_end(job, state)

    def _note_end(self, job: Known, state: JobState | None) -> None:
        new, failed = job.new, None
        if state is S.FAILED and new.follow_up is not None:
            self.notified.add(ENDED_TOPIC)
            failed = FailedJob(
                id=new.id,
                queue=new.queue,
                kind=new.kind,
                arguments=Raw(new.arguments),
                follow_up=Raw(new.follow_up),
                meta=Raw(new.meta or b"null"),
                run_id=new.run_id,
                error=job.error,
            )
        if new.followed or failed is not None:
            self.ended.append(EndedJob(new.id, new.queue, state, moment(self.now), failed))

    def _note_failure(self, job: Known, error: ErrorRecord) -> None:
        assert job.run is not None
        assert job.started_at is not None
        job.attempts += (
            AttemptRecord(
                number=job.attempt,
                lease=job.run,
                worker=job.worker,
                started_at=moment(job.started_at),
                finished_at=moment(self.now),
                error=error,
            ),
        )

    def _when(self, when: When | None) -> int | None:
        if when is None:
            return None
        return (when - EPOCH) // timedelta(microseconds=1) if isinstance(when, datetime) else self.now + micros(when)

    def _holder(self, queue: str, key: str | None) -> Known | None:
        if key is None:
            return None
        held = (
            j for j in self.jobs.values() if j.state not in OVER and (j.key_queue, j.new.unique_key) == (queue, key)
        )
        return next(held, None)

    def _line(self, state: JobState, *, queue: str) -> list[Known]:
        line = [job for job in self.jobs.values() if job.state is state and job.new.queue == queue]
        return sorted(line, key=lambda job: (not job.returned, 0 if job.returned else -job.new.priority, job.position))

    # Adding

    def add(self, jobs: Sequence[NewJob]) -> list[Added]:
        return [self._add_one(job) for job in jobs]

    def _add_one(self, new: NewJob) -> Added:
        if new.id in self.jobs:
            return Added(new.id, False)
        holder = self._holder(new.queue, new.unique_key)
        if holder is not None:
            return Added(holder.new.id, False)
        job = Known(new, new.queue, self.now, self._when(new.run_at), self._when(new.deadline), S.PENDING, 0)
        self._line_up(job)
        job.since_added = True
        self.jobs[new.id] = job
        return Added(new.id, True)

    # Settling and claiming

    def settle_and_claim(
        self, worker: UUID, settlements: Sequence[Settlement] = (), claim: Claim | None = None
    ) -> SettleAndClaimResult:
        settled = [self._settle(settlement) for settlement in settlements]
        known = self.known_workers.get(worker)
        alive = known is not None and known.expires_at > self.now
        claimed: list[ClaimedJob] = []
        if not alive or claim is None:
            return SettleAndClaimResult(settled, claimed, alive)
        freed = self._free(claim)
        more, left = False, claim.max_bytes
        for line in claim.lines:
            most = claim.limit - len(claimed)
            for job in self._line(S.PENDING, queue=line.queue)[: most if line.limit is None else min(most, line.limit)]:
                size = len(job.new.arguments)
                if left is not None and claimed and size > left:
                    more = True
                if more:
                    break
                left = None if left is None else left - size
                claimed.append(self._claim(job, worker))
        return SettleAndClaimResult(settled, claimed, alive, picked=len(claimed), freed=freed, more=more)

    def _free(self, claim: Claim) -> int:
        """Free jobs that wait for a worker that can take them: the oldest ids first, to the returned line."""
        fitting = [
            job
            for job in self.jobs.values()
            if job.state is S.BLOCKED
            and job.reason in SUSPENDED
            and job.new.queue in claim.queues
            and any(kind == job.new.kind and said not in job.refused for kind, said in claim.kinds)
        ]
        freed = sorted(fitting, key=lambda job: job.new.id)[: claim.limit]
        for job in freed:
            self._ready(job, returned=True)
        return len(freed)

    def _settle(self, settlement: Settlement) -> JobState | None:
        job = self.jobs.get(settlement.id)
        if job is None or job.run != settlement.lease:
            return None
        if job.state is not S.PROCESSING:
            return job.settled_as
        ending, error = settlement.ending, settlement.error
        when = self._when(settlement.when)
        waits = when is not None and when > self.now
        state = settled_as(ending, job.request, waits=waits)
        uncounted = ending in (Ending.RELEASE, Ending.SNOOZE, Ending.SUSPEND)
        handed_back = ending is Ending.DISABLE and job.request is None
        if uncounted or handed_back:
            job.attempt -= 1
        elif ending is not Ending.COMPLETE and error is not None:
            self._note_failure(job, error)
            if state in (S.FAILED, S.ABORTED, S.DISABLED):
                job.error = error
        if state is S.COMPLETED:
            job.result = settlement.result
        if settlement.progress is not None:
            job.progress = settlement.progress
        if ending is Ending.SUSPEND and settlement.declaration is not None:
            job.refused = (*job.refused, settlement.declaration)[-20:]
        if state in (S.SCHEDULED, S.BLOCKED):
            job.run_at = None if ending is Ending.SUSPEND else when
        if state is S.PENDING:
            if job.new.gated:
                self._ready(job)
                state = S.BLOCKED
            else:
                back = ending is Ending.RELEASE or handed_back
                self._enter(job, state, returned=back)
        else:
            usual = {
                S.SCHEDULED: "snoozed" if ending is Ending.SNOOZE else "backoff",
                S.BLOCKED: "released",
                S.DISABLED: "disabled",
                S.ABORTED: "aborted",
            }
            self._enter(job, state, None if state is S.COMPLETED else settlement.reason or usual.get(state))
        job.settled_as = state
        for child in settlement.jobs:
            self._add_one(child)
        return state

    def _claim(self, job: Known, worker: UUID) -> ClaimedJob:
        self.runs += 1
        job.state, job.run, job.worker, job.started_at = S.PROCESSING, self.runs, worker, self.now
        job.attempt, job.start_marked = job.attempt + 1, False
        job.settled_as, job.reason, job.progress, job.since = None, None, Progress(), self.now
        return self._claimed(job)

    def _claimed(self, job: Known) -> ClaimedJob:
        new = job.new
        left = None if job.deadline is None else (job.deadline - self.now) / 1_000_000
        assert job.run is not None
        return ClaimedJob(
            new.id, job.run, new.queue, new.kind, new.arguments, job.attempt, new.max_attempts, new.priority,
            new.timeout, left, new.backoff, new.run_id, new.tags, new.meta,
        )  # fmt: skip

    def _running(self, job_id: UUID, run: int) -> Known | None:
        job = self.jobs.get(job_id)
        return job if job is not None and job.state is S.PROCESSING and job.run == run else None

    def mark_started(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[bool]:
        answer = []
        for job_id, run in leases:
            job = self._running(job_id, run)
            if job is None or job.worker != worker:
                answer.append(False)
            else:
                job.start_marked = True
                answer.append(True)
        return answer

    def check_leases(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[LeaseStatus]:
        jobs = [self._running(*lease) for lease in leases]
        return [
            LeaseStatus(False) if job is None or job.worker != worker else LeaseStatus(True, job.request)
            for job in jobs
        ]

    def recover_claims(self, worker: UUID, leases: Collection[int]) -> list[ClaimedJob]:
        mine = [job for job in self.jobs.values() if job.state is S.PROCESSING and job.worker == worker]
        return [self._claimed(job) for job in sorted(mine, key=_run) if job.run not in leases]

    def progress(self, worker: UUID, reports: Sequence[ProgressReport]) -> list[bool]:
        answer = []
        for report in reports:
            job = self._running(report.id, report.lease)
            if job is not None:
                job.progress = report.progress
                self.notified.add(PROGRESS_TOPIC)
            answer.append(job is not None)
        return answer

    # Control

    def _change(self, ids: Iterable[UUID], act: Callable[[Known], bool]) -> list[Change]:
        """Apply `act` to jobs, one by one. `act` returns whether it changed the stop request of a running job."""
        changes = []
        for job_id in ids:
            job = self.jobs.get(job_id)
            if job is None:
                changes.append(Change(job_id, None, None))
                continue
            before = job.state
            asked = act(job)
            if asked:
                self.notified.add(REQUEST_TOPIC)
            changes.append(Change(job_id, before, job.state if job_id in self.jobs else None, asked))
        return changes

    def abort(self, ids: Sequence[UUID]) -> list[Change]:
        return self._change(ids, self._abort)

    def _abort(self, job: Known) -> bool:
        if job.state is S.PROCESSING:
            job.request = StopRequest.ABORT
            return True
        if job.state not in OVER:
            self._enter(job, S.ABORTED, "aborted")
        return False

    def abort_run(self, run_id: str) -> list[Change]:
        ids = [job.new.id for job in self.jobs.values() if job.new.run_id == run_id and job.state not in OVER]
        return self.abort(sorted(ids))

    def retry(self, ids: Sequence[UUID]) -> list[Change]:
        return self._change(ids, self._retry)

    def _retry(self, job: Known) -> bool:
        if job.state in (S.FAILED, S.ABORTED) and self._holder(job.key_queue, job.new.unique_key) is None:
            self._ready(job)
            job.attempt, job.finished_at, job.error, job.progress = 0, None, None, Progress()
        return False

    def disable(self, ids: Sequence[UUID]) -> list[Change]:
        return self._change(ids, self._disable)

    def _disable(self, job: Known) -> bool:
        if job.state is S.PROCESSING:
            if job.request is StopRequest.ABORT:
                return False
            job.request = StopRequest.DISABLE
            return True
        if job.state not in (*OVER, S.DISABLED):
            self._enter(job, S.DISABLED, "disabled")
        return False

    def enable(self, ids: Sequence[UUID]) -> list[Change]:
        return self._change(ids, self._enable)

    def _enable(self, job: Known) -> bool:
        if job.state is S.PROCESSING and job.request is StopRequest.DISABLE:
            job.request = None
            return True
        if job.state is S.DISABLED:
            self._line_up(job)
            job.error = None
        return False

    def delete(self, ids: Sequence[UUID]) -> list[Change]:
        return self._change(ids, self._delete)

    def _delete(self, job: Known) -> bool:
        del self.jobs[job.new.id]
        self.notified.add(FINISHED_TOPIC)
        if job.state not in OVER:
            self._note_end(job, None)
        if job.state is S.PROCESSING:
            self.notified.add(REQUEST_TOPIC)
        return False

    def clear(self, queue: str) -> int:
        return len(self.delete([job.new.id for job in self.jobs.values() if job.new.queue == queue]))

    def run_now(self, ids: Sequence[UUID]) -> list[Change]:
        return self._alter(ids, self._run_now)

    def reschedule(self, ids: Sequence[UUID], run_at: datetime) -> list[Change]:
        at = self._when(run_at)
        assert at is not None
        return self._alter(ids, lambda job: self._reschedule(job, at))

    def move(self, ids: Sequence[UUID], queue: str) -> list[Change]:
        return self._alter(ids, lambda job: self._move(job, queue))

    def set_priority(self, ids: Sequence[UUID], priority: int) -> list[Change]:
        return self._alter(ids, lambda job: self._set_priority(job, priority))

    def _alter(self, ids: Iterable[UUID], act: Callable[[Known], bool]) -> list[Change]:
        """Apply `act` to jobs, one by one. `act` returns whether it altered the job."""
        changes = []
        for job_id in ids:
            job = self.jobs.get(job_id)
            if job is None:
                changes.append(Change(job_id, None, None))
            else:
                before, altered = job.state, act(job)
                changes.append(Change(job_id, before, job.state, altered=altered))
        return changes

    def _run_now(self, job: Known) -> bool:
        if job.state not in (S.SCHEDULED, S.BLOCKED) or job.run_at is None:
            return False
        job.run_at = None
        self._ready(job)
        return True

    def _reschedule(self, job: Known, at: int) -> bool:
        if job.state is S.DISABLED:
            job.run_at = at
        elif at <= self.now:
            return self._run_now(job)
        elif job.state is S.SCHEDULED:
            job.run_at, job.reason = at, "delayed"
            self.notified.add(WAITING_TOPIC)
        elif job.state is S.PENDING:
            job.run_at = at
            self._enter(job, S.SCHEDULED, "delayed")
        else:
            return False
        return True

    def _move(self, job: Known, queue: str) -> bool:
        if job.state not in UNCLAIMED or job.new.queue == queue:
            return False
        job.new = replace(job.new, queue=queue)
        if job.reason in SUSPENDED:
            self.notified.add(blocked_topic(queue))
        self._to_end_of_line(job)
        return True

    def _set_priority(self, job: Known, priority: int) -> bool:
        if job.state not in UNCLAIMED or job.new.priority == priority:
            return False
        job.new = replace(job.new, priority=priority)
        self._to_end_of_line(job)
        return True

    def _to_end_of_line(self, job: Known) -> None:
        """Let a PENDING job stand behind all others of its queue and priority; what others wait for stays."""
        if job.state is S.PENDING:
            self._positions += 1
            job.position, job.returned = self._positions, False
            self.notified.add(queue_topic(job.new.queue))

    # Bulk operations

    def add_operation(self, operation: Operation) -> None:
        self.bulk.setdefault(operation.id, replace(operation, created_at=moment(self.now)))

    def operations(self, ids: Sequence[UUID] | None = None, *, running: bool = False) -> list[Operation]:
        if ids is not None:
            return [self.bulk[each] for each in ids if each in self.bulk]
        if running:
            return [self.bulk[each] for each in sorted(self.bulk) if self.bulk[each].state is OperationState.RUNNING]
        return [self.bulk[each] for each in sorted(self.bulk, reverse=True)]

    def save_operation(self, operation: Operation, *, seen: UUID | None) -> bool:
        stored = self.bulk.get(operation.id)
        if stored is None or stored.state is OperationState.DONE or stored.cursor != seen:
            return False
        cancelled = stored.state is OperationState.CANCELLED
        ends = not cancelled and operation.state is not OperationState.RUNNING
        self.bulk[operation.id] = replace(
            stored,
            cursor=operation.cursor,
            done=operation.done,
            changed=operation.changed,
            refused=operation.refused,
            state=stored.state if cancelled else operation.state,
            worked_at=moment(self.now),
            finished_at=moment(self.now) if ends else stored.finished_at,
        )
        return True

    def cancel_operation(self, id: UUID) -> bool:
        stored = self.bulk.get(id)
        if stored is None or stored.state is not OperationState.RUNNING:
            return False
        self.bulk[id] = replace(stored, state=OperationState.CANCELLED, finished_at=moment(self.now))
        return True

    def work_off(self, id: UUID, size: int) -> tuple[Operation, bool]:
        """Do the next slice of a bulk operation, as `jobq_core.operations.work` does."""
        operation = self.bulk[id]
        if operation.state is not OperationState.RUNNING:
            return operation, True
        page = self.find(operation.filter, after=operation.cursor or operation.before, limit=size)
        changes = self._do(operation, [job.id for job in page.jobs])
        retries = operation.action is Action.RETRY
        refused = [change for change in changes if retries and not change.changed and change.before in OVER[1:]]
        worked = replace(
            operation,
            cursor=page.jobs[-1].id if page.jobs else operation.cursor,
            done=operation.done + len(changes),
            changed=operation.changed + sum(change.changed for change in changes),
            refused=operation.refused + len(refused),
            state=OperationState.DONE if page.cursor is None else OperationState.RUNNING,
        )
        self.save_operation(worked, seen=operation.cursor)
        return self.bulk[id], True

    def _do(self, operation: Operation, ids: list[UUID]) -> list[Change]:
        action, value = operation.action, operation.value
        if value is None:
            return getattr(self, action.replace("-", "_"))(ids)  # type: ignore[no-any-return]
        if action is Action.RESCHEDULE:
            return self.reschedule(ids, datetime.fromisoformat(value))
        return self.move(ids, value) if action is Action.MOVE else self.set_priority(ids, int(value))

    # Reading

    def get(self, ids: Sequence[UUID]) -> list[JobRecord | None]:
        return [record(self.jobs[job_id]) if job_id in self.jobs else None for job_id in ids]

    def find(self, filter: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        found = [
            job
            for job in self.jobs.values()
            if (after is None or job.new.id < after)
            and filter.queue in (None, job.new.queue)
            and (not filter.states or job.state in filter.states)
            and (not filter.kinds or job.new.kind in filter.kinds)
            and filter.run_id in (None, job.new.run_id)
            and set(filter.tags) <= set(job.new.tags)
        ]
        found.sort(key=lambda job: job.new.id, reverse=True)
        page = found[:limit]
        return Page([summary(job) for job in page], page[-1].new.id if page and len(found) > limit else None)

    def counts(self, queue: str | None = None) -> Mapping[str, Mapping[JobState, int]]:
        names = {job.new.queue for job in self.jobs.values()} if queue is None else {queue}
        return {
            name: {s: sum(j.state is s and j.new.queue == name for j in self.jobs.values()) for s in JobState}
            for name in names
        }

    def get_status(self, ids: Sequence[UUID]) -> list[JobStatus | None]:
        return [status(self.jobs[job_id]) if job_id in self.jobs else None for job_id in ids]

    def output_for(self, queue: str, kind: str, fingerprint: bytes) -> JobStatus | None:
        wanted = (S.COMPLETED, queue, kind, fingerprint)
        found = [j for j in self.jobs.values() if (j.state, j.new.queue, j.new.kind, j.new.fingerprint) == wanted]
        return status(max(found, key=lambda job: job.new.id)) if found else None

    # Workers

    def register(self, worker: WorkerInfo) -> None:
        known = self.known_workers.setdefault(worker.id, Registered(worker, self.now, self.now))
        known.info, known.beat_at = worker, self.now

    def beat(self, worker: UUID, stats: WorkerStats) -> bool:
        known = self.known_workers.get(worker)
        if known is None:
            return False
        known.beat_at, known.stats = self.now, stats
        return True

    def deregister(self, worker: UUID) -> None:
        self.known_workers.pop(worker, None)

    def workers(self) -> list[WorkerRecord]:
        return [
            WorkerRecord(
                info=known.info,
                started_at=moment(known.started_at),
                beat_at=moment(known.beat_at),
                expires_at=moment(known.expires_at),
                stats=known.stats,
            )
            for known in sorted(self.known_workers.values(), key=lambda known: (known.started_at, known.info.id))
        ]

    # Maintenance

    def lead(self, worker: UUID, term: float) -> Leadership:
        if self._leader in (None, worker) or self._leader_until <= self.now:
            self._leader, self._leader_until = worker, self.now + micros(term)
        return Leadership(self._leader == worker, (self._leader_until - self.now) / 1_000_000)

    def resign(self, worker: UUID) -> None:
        if self._leader == worker:
            self._leader = None

    def _timed(self) -> list[Known]:
        waiting = [job for job in self.jobs.values() if job.state in (S.SCHEDULED, S.BLOCKED)]
        timed = [job for job in waiting if job.run_at is not None]
        return sorted(timed, key=lambda job: (job.run_at, job.position))

    def open_ties(self) -> list[UUID]:
        """Return the due jobs whose order is open: among jobs due at the same moment, only those that have waited since
        they were added are ordered."""
        due = [job for job in self._timed() if _at(job) <= self.now]
        ties = [[other for other in due if other.run_at == job.run_at] for job in due]
        return [
            job.new.id for job, tie in zip(due, ties, strict=True) if not all(j.since_added for j in tie) and tie[1:]
        ]

    def promote(self, limit: int = 1000) -> Promotion:
        due = [job for job in self._timed() if _at(job) <= self.now]
        self.open_order = self.open_ties()
        for job in due[:limit]:
            self._ready(job)
        left = self._timed()
        return Promotion(len(due[:limit]), max(_at(left[0]) - self.now, 0) / 1_000_000 if left else None)

    def expire(self) -> Expired:
        waiting = [job for job in self.jobs.values() if job.state in (S.SCHEDULED, S.BLOCKED, S.PENDING)]
        over = [job for job in waiting if job.deadline is not None and job.deadline <= self.now]
        for job in over:
            job.error = ErrorRecord(type=DEADLINE_TYPE, message="its deadline passed before it could start")
            self._enter(job, S.FAILED)
        left = [job.deadline for job in waiting if job not in over and job.deadline is not None]
        return Expired(len(over), (min(left) - self.now) / 1_000_000 if left else None)

    def admit(self, ids: Sequence[UUID]) -> int:
        admitted = 0
        for job in map(self.jobs.get, ids):
            if job is not None and (job.state, job.reason) == (S.BLOCKED, GATED):
                self._enter(job, S.PENDING)
                admitted += 1
        return admitted

    def resolve(self) -> list[EndedJob]:
        ended, self.ended = self.ended, []
        return ended

    def rescue(self) -> list[LostWorker]:
        lost = {worker: known for worker, known in self.known_workers.items() if known.expires_at <= self.now}
        for worker in lost:
            del self.known_workers[worker]
        rescued: dict[UUID, list[RescuedJob]] = {worker: [] for worker in lost}
        running = [job for job in self.jobs.values() if job.state is S.PROCESSING]
        for job in sorted(running, key=_run):
            assert job.worker is not None
            if job.worker not in self.known_workers:
                name = lost[job.worker].info.name if job.worker in lost else ""
                rescued.setdefault(job.worker, []).append(self._rescue_one(job, name))
        # Worker by worker, in any order.
        freed = [job for jobs in rescued.values() for job in jobs if job.state is S.PENDING]
        self.open_order = [job.id for job in freed] if sum(map(bool, rescued.values())) > 1 else []
        return [
            LostWorker(
                worker=worker,
                name=lost[worker].info.name if worker in lost else "",
                silent_for=(self.now - lost[worker].beat_at) / 1_000_000 if worker in lost else 0.0,
                jobs=jobs,
            )
            for worker, jobs in rescued.items()
        ]

    def _rescue_one(self, job: Known, name: str) -> RescuedJob:
        shown = f"worker '{name}' ({job.worker})" if name else f"worker ({job.worker})"
        error = ErrorRecord(type="jobq_core.errors.WorkerLostError", message=f"{shown} missed its heartbeat")
        # The first of several attempts needs no start mark: it counts whether it ran or not.
        first_of_several = job.attempt == 1 and job.new.max_attempts != 1
        never_ran = not job.start_marked and not first_of_several
        request, spent = job.request, job.attempt >= job.new.max_attempts and not never_ran
        if never_ran:
            job.attempt -= 1
        else:
            self._note_failure(job, error)
        if request is StopRequest.DISABLE:
            self._enter(job, S.DISABLED, "disabled")
        elif request is StopRequest.ABORT:
            self._enter(job, S.ABORTED, "aborted")
        elif spent:
            job.error = error
            self._enter(job, S.FAILED, "worker lost")
        else:
            self._ready(job)
        if job.state in (*OVER, S.DISABLED) and not never_ran:
            job.error = error
        self.notified.add(REQUEST_TOPIC)
        new = job.new
        return RescuedJob(id=new.id, kind=new.kind, queue=new.queue, attempt=job.attempt, state=job.state)

    def set_queue(self, queue: str, options: QueueOptions, owner: QueueOwner = "operator") -> None:
        # Steps set nothing else, and as operators.
        assert options.retention is not None
        self._retention[queue] = options.retention

    def prune(self, limit: int = 10_000) -> int:
        over = [job for job in self.jobs.values() if job.state in OVER and self._is_over(job)]
        for job in over[:limit]:
            self._delete(job)
        since = moment(self.now) - timedelta(days=AUDIT_DAYS)
        kept = [each for each in self.bulk.values() if each.finished_at is None or each.finished_at > since]
        self.bulk = {each.id: each for each in kept}
        return len(over[:limit])

    def _is_over(self, job: Known) -> bool:
        kept = self._retention.get(job.new.queue, Retention())
        seconds = {S.COMPLETED: kept.completed, S.FAILED: kept.failed, S.ABORTED: kept.aborted}[job.state]
        assert job.finished_at is not None
        return seconds is not None and job.finished_at + micros(seconds) <= self.now


def settled_as(ending: Ending, request: StopRequest | None, *, waits: bool) -> JobState:
    """Return the state after a settlement: only a completion outweighs the last request, and a run that stopped for a
    request that was withdrawn since goes on as if handed back."""
    if ending is Ending.COMPLETE:
        return S.COMPLETED
    if request is not None:
        return {StopRequest.ABORT: S.ABORTED, StopRequest.DISABLE: S.DISABLED}[request]
    return {
        Ending.FAIL: S.FAILED,
        Ending.ABORT: S.ABORTED,
        Ending.HOLD: S.DISABLED,
        Ending.DISABLE: S.PENDING,
        Ending.SUSPEND: S.BLOCKED,
        Ending.RELEASE: S.BLOCKED if waits else S.PENDING,
        Ending.RETRY: S.SCHEDULED if waits else S.PENDING,
        Ending.SNOOZE: S.SCHEDULED if waits else S.PENDING,
    }[ending]


def record(job: Known) -> JobRecord:
    """Return the record of a job."""
    new = job.new
    return JobRecord(
        id=new.id,
        kind=new.kind,
        queue=new.queue,
        state=job.state,
        priority=new.priority,
        arguments_json=new.arguments,
        created_at=moment(job.created_at),
        run_at=None if job.run_at is None else moment(job.run_at),
        deadline=None if job.deadline is None else moment(job.deadline),
        timeout=new.timeout,
        attempt=job.attempt,
        max_attempts=new.max_attempts,
        run_id=new.run_id,
        tags=new.tags,
        unique_key=new.unique_key,
        reason=job.reason,
        stop_request=job.request,
        worker=job.worker,
        lease=job.run,
        started_at=None if job.started_at is None else moment(job.started_at),
        finished_at=None if job.finished_at is None else moment(job.finished_at),
        progress=job.progress,
        result_json=job.result,
        error=job.error,
        attempts=job.attempts,
        meta_json=new.meta,
        since=moment(job.since),
        gated=new.gated,
        followed=new.followed,
    )


def summary(job: Known) -> JobSummary:
    """Return what `find` shows of a job: no payloads, details or tracebacks."""
    whole = record(job)
    fields = {name: getattr(whole, name) for name in JobSummary.__struct_fields__}
    progress, error = whole.progress, whole.error
    fields["progress"] = Progress(percent=progress.percent, message=progress.message)
    fields["error"] = None if error is None else ErrorRecord(type=error.type, message=error.message)
    return JobSummary(**fields)


def status(job: Known) -> JobStatus:
    """Return the status of a job."""
    return JobStatus(
        id=job.new.id,
        kind=job.new.kind,
        queue=job.new.queue,
        state=job.state,
        attempt=job.attempt,
        progress=job.progress,
        worker=job.worker,
        result_json=job.result,
        error=job.error,
    )


def moment(microseconds: int) -> datetime:
    """Return the datetime of one of the model's times."""
    return EPOCH + timedelta(microseconds=microseconds)


def micros(seconds: float) -> int:
    """Return seconds as whole microseconds."""
    return round(seconds * 1_000_000)


def _run(job: Known) -> int:
    assert job.run is not None
    return job.run


def _at(job: Known) -> int:
    assert job.run_at is not None
    return job.run_at
