"""What is wrong with a queue and what cures it: what `jobq doctor` and the dashboard show.

`examine` reads the facts, in a bounded number of calls, and judges them; then it asks the storage for what only the
storage can know. Each finding has a stable code, and names the command that cures it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Final

from msgspec import Struct

from jobq_core.records import JobSummary, WorkerRecord
from jobq_core.states import JobState
from jobq_core.storage import (
    UNFIT_ARGUMENTS,
    UNKNOWN_KIND,
    Depth,
    Finding,
    JobFilter,
    Operation,
    OperationState,
    QueueRecord,
    QueueStorage,
    Severity,
    StatisticsRecord,
)

LATE_SECONDS: Final = 60.0
"""How late a due job, a rescue or a slice of an operation may be before it counts as left undone."""
OLD_SECONDS: Final = 600.0
"""The age of the oldest PENDING job of a queue from which on its backlog is a finding."""
PAUSED_SECONDS: Final = 3_600.0
"""How long a queue with PENDING jobs may be paused."""
LONG_SECONDS: Final = 86_400.0
"""How long a job may run."""
LAG_SECONDS: Final = 1.0
"""How long an event loop may be blocked."""
SKEW_SECONDS: Final = 5.0
"""How far this machine's clock may be from the storage's."""
FAILING_SHARE: Final = 0.5
FAILING_JOBS: Final = 10
"""A kind fails if this share of its jobs of the last hour did, of this many at least."""
LOOKED_AT: Final = 500
"""The number of BLOCKED jobs that are looked at, newest first."""

E, W = Severity.ERROR, Severity.WARNING


class Facts(Struct, frozen=True, kw_only=True):
    """What `judge` judges. now: by the storage's clock; here: by this machine's, at the same time. overdue: how many
    SCHEDULED jobs have been due for longer than LATE_SECONDS."""

    now: datetime
    here: datetime
    depths: Sequence[Depth] = ()
    workers: Sequence[WorkerRecord] = ()
    queues: Sequence[QueueRecord] = ()
    statistics: Sequence[StatisticsRecord] = ()
    operations: Sequence[Operation] = ()
    blocked: Sequence[JobSummary] = ()
    overdue: int = 0

    @property
    def alive(self) -> list[WorkerRecord]:
        """The workers whose heartbeat has not expired."""
        return [worker for worker in self.workers if worker.is_alive(self.now)]


async def examine(storage: QueueStorage) -> list[Finding]:
    """Return what is wrong, errors first; an empty list for a healthy queue."""
    before = datetime.now(UTC)
    now = await storage.now()
    here = before + (datetime.now(UTC) - before) / 2
    facts = Facts(
        now=now,
        here=here,
        depths=await storage.depths(),
        workers=await storage.workers(),
        queues=await storage.queues(),
        statistics=await storage.statistics(step=600),
        operations=await storage.operations(running=True),
        blocked=(await storage.find(JobFilter(states=[JobState.BLOCKED]), limit=LOOKED_AT)).jobs,
        overdue=await storage.overdue(LATE_SECONDS),
    )
    of_storage = await storage.diagnose()
    known = {finding.message for finding in of_storage}
    unsafe = [
        Finding(code="unsafe-settings", severity=E, subject=storage.url, message=said, remedy="see the message")
        for said in storage.warnings
        if said not in known
    ]
    found = [*judge(facts), *unsafe, *of_storage]
    return sorted(found, key=lambda finding: finding.severity is not E)


def judge(facts: Facts) -> list[Finding]:
    """Return what the facts say is wrong."""
    judges = (_queues, _lost, _workers, _versions, _blocked, _late, _failing, _paused, _operations, _clock)
    return [finding for each in judges for finding in each(facts)]


def _queues(facts: Facts) -> Iterator[Finding]:
    """Backlogs: no worker, no slot, or too few slots."""
    served = {queue for worker in facts.alive for queue in worker.info.queues}
    waiting = [depth for depth in facts.depths if depth.state is JobState.PENDING and depth.jobs]
    all_stand = len(waiting) > 1 and not facts.alive
    if all_stand:
        yield _no_workers(waiting)
    for depth in facts.depths:
        age = None if depth.oldest is None else facts.now - depth.oldest
        if depth.state is JobState.PROCESSING and age is not None and age.total_seconds() > LONG_SECONDS:
            yield Finding(
                code="long-running",
                severity=W,
                subject=depth.queue,
                message=f"a job of queue {depth.queue!r} has been running for {_shown(age)}",
                remedy=f"jobq jobs --queue {depth.queue} --state processing; declare a timeout for its kind",
            )
        if all_stand or depth.state is not JobState.PENDING or not depth.jobs:
            continue
        if depth.queue not in served:
            close = get_close_matches(depth.queue, sorted(served), n=1)
            meant = f"; a worker serves {close[0]!r}" if close else ""
            yield Finding(
                code="no-worker",
                severity=E,
                subject=depth.queue,
                message=f"no live worker serves queue {depth.queue!r}, where {_wait(depth.jobs)}{meant}",
                remedy=f"start a worker: jobq worker MODULE --queue {depth.queue}"
                + (f", or jobq move --queue {depth.queue} --to {close[0]}" if close else ""),
            )
        elif age is not None and age.total_seconds() > OLD_SECONDS and not _is_paused(facts, depth.queue):
            yield _backlog(facts, depth, age)


def _no_workers(waiting: Sequence[Depth]) -> Finding:
    """Return one finding for all queues: one for each would hide the other findings."""
    most = max(waiting, key=lambda depth: depth.jobs)
    return Finding(
        code="no-workers",
        severity=E,
        subject="workers",
        message=f"no worker is running: {_wait(sum(depth.jobs for depth in waiting))} in {len(waiting):,} queues, the "
        f"most in {most.queue!r}",
        remedy="start workers: jobq worker MODULE "
        + " ".join(f"--queue {depth.queue}" for depth in waiting[:3])
        + (" …" if len(waiting) > 3 else ""),
    )


def _backlog(facts: Facts, depth: Depth, age: timedelta) -> Finding:
    workers = [worker for worker in facts.alive if depth.queue in worker.info.queues]
    slots = sum(worker.slots for worker in workers)
    busy = sum(worker.stats.running for worker in workers)
    waits = f"{_wait(depth.jobs)} in queue {depth.queue!r}, the oldest for {_shown(age)}"
    if slots == 0:
        return Finding(
            code="no-slots",
            severity=E,
            subject=depth.queue,
            message=f"{waits}, and its workers have no slots: they were scaled to 0",
            remedy="scale the server, or start workers with --concurrency N",
        )
    if busy >= slots:
        return Finding(
            code="too-few-slots",
            severity=W,
            subject=depth.queue,
            message=f"{waits}, and all {slots:,} slots of its workers are busy",
            remedy="start more workers, or give them a higher --concurrency",
        )
    return Finding(
        code="slow-backlog",
        severity=W,
        subject=depth.queue,
        message=f"{waits}, and {slots - busy:,} of the {slots:,} slots of its workers are free",
        remedy="a limiter may hold the jobs back; ask about the oldest: jobq why ID",
    )


def _lost(facts: Facts) -> Iterator[Finding]:
    for worker in facts.workers:
        late = (facts.now - worker.expires_at).total_seconds()
        if late > LATE_SECONDS:
            yield Finding(
                code="lost-worker",
                severity=E,
                subject=worker.info.name,
                message=f"worker {worker.info.name!r} was lost {_shown(late)} ago, and its jobs have not been rescued",
                remedy="start a worker: any live worker rescues them",
            )


def _workers(facts: Facts) -> Iterator[Finding]:
    for worker in facts.alive:
        name = worker.info.name
        if worker.stats.loop_lag >= LAG_SECONDS:
            yield Finding(
                code="loop-blocked",
                severity=E,
                subject=name,
                message=f"the event loop of worker {name!r} has been blocked for {_shown(worker.stats.loop_lag)}",
                remedy="its log has the stack; declare the handler as a plain function, which runs in a thread",
            )
        if worker.stats.hung:
            yield Finding(
                code="hung-handlers",
                severity=E,
                subject=name,
                message=f"worker {name!r} has hung handlers, which run past their time limit: {worker.stats.hung}",
                remedy=f"jobq workers drain {name}; declare such kinds with executor='process', which can be killed",
            )
        if not worker.stats.hears:
            yield Finding(
                code="deaf-worker",
                severity=W,
                subject=name,
                message=f"worker {name!r} receives no notifications, and polls: jobs start up to a second late",
                remedy="give its storage a listen_dsn that bypasses the pooler",
            )


def _versions(facts: Facts) -> Iterator[Finding]:
    for package in sorted({name for worker in facts.alive for name in worker.info.versions if name.startswith("jobq")}):
        found = Counter(worker.info.versions[package] for worker in facts.alive if package in worker.info.versions)
        if len(found) > 1:
            counted = ", ".join(f"{version} on {count}" for version, count in sorted(found.items()))
            yield Finding(
                code="versions-apart",
                severity=W,
                subject=package,
                message=f"live workers run different versions of {package}: {counted}",
                remedy="finish the deployment",
            )


def _blocked(facts: Facts) -> Iterator[Finding]:
    counted = Counter((job.reason, job.kind) for job in facts.blocked)
    for (reason, kind), count in counted.items():
        if reason == UNKNOWN_KIND:
            yield Finding(
                code="unknown-kind",
                severity=E,
                subject=kind,
                message=f"{_wait(count)} for a worker that knows the kind {kind!r}",
                remedy=f"deploy a worker that declares it, or jobq abort --kind {kind} --state blocked",
            )
        elif reason == UNFIT_ARGUMENTS:
            yield Finding(
                code="unfit-arguments",
                severity=E,
                subject=kind,
                message=f"{_wait(count)} for a worker whose declaration of kind {kind!r} accepts the arguments",
                remedy=f"deploy a worker whose declaration accepts them, or jobq abort --kind {kind} --state blocked",
            )


def _late(facts: Facts) -> Iterator[Finding]:
    if facts.overdue:
        yield Finding(
            code="not-promoted",
            severity=E,
            subject="maintenance",
            message=f"scheduled jobs have been due for more than {LATE_SECONDS:g} s: {facts.overdue:,}",
            remedy="start a worker: one of the live workers does the maintenance"
            if not facts.alive
            else "look for errors of the maintenance in the workers' logs",
        )


def _failing(facts: Facts) -> Iterator[Finding]:
    ended: dict[tuple[str, str], Counter[JobState]] = {}
    for record in facts.statistics:
        ended.setdefault((record.queue, record.kind), Counter())[record.state] += record.jobs
    for (queue, kind), states in sorted(ended.items()):
        failed, all_jobs = states[JobState.FAILED], states[JobState.FAILED] + states[JobState.COMPLETED]
        if all_jobs >= FAILING_JOBS and failed / all_jobs >= FAILING_SHARE:
            yield Finding(
                code="failing-kind",
                severity=W,
                subject=kind,
                message=f"{failed:,} of {all_jobs:,} jobs of kind {kind!r} in queue {queue!r} failed in the last hour",
                remedy=f"jobq failed --queue {queue}; once the cause is fixed, jobq retry --kind {kind} --state failed",
            )


def _is_paused(facts: Facts, queue: str) -> bool:
    return any(record.name == queue and record.paused_at is not None for record in facts.queues)


def _paused(facts: Facts) -> Iterator[Finding]:
    waiting = {depth.queue: depth.jobs for depth in facts.depths if depth.state is JobState.PENDING}
    for record in facts.queues:
        if record.paused_at is None or not waiting.get(record.name):
            continue
        since = facts.now - record.paused_at
        if since.total_seconds() > PAUSED_SECONDS:
            by = f" by {record.paused_by}" if record.paused_by else ""
            yield Finding(
                code="paused-queue",
                severity=W,
                subject=record.name,
                message=f"queue {record.name!r} was paused{by} {_shown(since)} ago; {_wait(waiting[record.name])}",
                remedy=f"jobq resume {record.name}",
            )


def _operations(facts: Facts) -> Iterator[Finding]:
    for operation in facts.operations:
        idle = (facts.now - (operation.worked_at or operation.created_at)).total_seconds()
        if operation.state is OperationState.RUNNING and idle > LATE_SECONDS:
            yield Finding(
                code="operation-left",
                severity=W,
                subject=str(operation.id),
                message=f"the operation {operation.action} of {operation.actor} has not advanced for {_shown(idle)}",
                remedy=f"jobq operations resume {operation.id}, or jobq operations cancel {operation.id}",
            )


def _clock(facts: Facts) -> Iterator[Finding]:
    skew = (facts.here - facts.now).total_seconds()
    if abs(skew) > SKEW_SECONDS:
        direction = "ahead of" if skew > 0 else "behind"
        yield Finding(
            code="clock-skew",
            severity=W,
            subject="clock",
            message=f"the clock of this machine is {_shown(abs(skew))} {direction} the storage's",
            remedy="synchronize both with NTP; times in logs are affected, leases are not",
        )


def _wait(jobs: int) -> str:
    return "1 job waits" if jobs == 1 else f"{jobs:,} jobs wait"


def _shown(span: timedelta | float) -> str:
    seconds = span.total_seconds() if isinstance(span, timedelta) else span
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.3g} s"
