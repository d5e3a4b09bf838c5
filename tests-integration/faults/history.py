"""Check a history against the promises of a queue: what was asked, what ran, what was announced, what is left.

All functions are pure. Where possible, checks rely on leases instead of clocks: the leases of a job are numbered in the
order in which they were given, and each write names its lease.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from uuid import UUID

import attrs
from journal import (
    AbortAnswered,
    Aborting,
    Answer,
    Answered,
    Asked,
    Disturbed,
    Ended,
    Heard,
    How,
    Line,
    Listening,
    Reported,
    RequestAnswered,
    Requesting,
    Serving,
    Started,
    Stopped,
    Told,
)
from life import Post, Request, of_line, of_requests, of_waiting, progress_lost
from tables import Kept, check_tables
from wrong import Violation, Wrong

from jobq_core.errors import JobDeadlineError, WorkerLostError
from jobq_core.records import JobRecord, type_name
from jobq_core.states import JobState, is_finished

LOST_TYPE = type_name(WorkerLostError)
LATE_TYPE = type_name(JobDeadlineError)
NOTICE = 10.0
"""Seconds within which a resumed process must notice that its leases are over and stop its runs, even on a busy
machine."""

Span = tuple[float, float]
"""Start and end of a time, in seconds of the journal."""


@attrs.frozen(kw_only=True)
class Add:
    """One add. asked, answered: when the call began and when the client was answered. job: the returned id, if known.

    result: the job's expected result (default: its token). ends: the state that it must end in; None: any. due: whether
    it is pending at once.
    """

    token: str
    answer: Answer = "unknown"
    asked: float = 0.0
    answered: float = float("inf")
    job: UUID | None = None
    created: bool = True
    unique_key: str | None = None
    result: str | None = None
    ends: JobState | None = JobState.COMPLETED
    due: bool = True


@attrs.frozen(kw_only=True)
class Abort:
    """One abort of a job. answered: when the client was answered. state: the job's state by that answer; None: no
    answer."""

    answered: float = float("inf")
    state: JobState | None = None


@attrs.frozen(kw_only=True)
class Run:
    """One run of a handler. end, ending: when and how the handler ended; None: its process ended first."""

    token: str
    job: UUID
    lease: int
    start: float
    attempt: int = 1
    worker: UUID | None = None
    pid: int = 0
    end: float | None = None
    ending: How | None = None


@attrs.frozen(kw_only=True)
class Event:
    """A listener received a job's terminal event. state: the state that the event announces. at: when."""

    listener: str
    job: UUID
    state: JobState
    at: float = float("inf")


@attrs.frozen(kw_only=True)
class Result:
    """A waiter received a job's result."""

    token: str
    job: UUID
    result: str


@attrs.frozen(kw_only=True)
class Final:
    """A job at the end of a history. lost, failed: the leases of its lost runs and of its failed runs. percent: the
    progress on record. late: whether its deadline failed it."""

    job: UUID
    token: str
    state: JobState
    queue: str = "default"
    lease: int | None = None
    attempt: int = 1
    max_attempts: int = 10
    result: str | None = None
    unique_key: str | None = None
    lost: frozenset[int] = frozenset()
    failed: frozenset[int] = frozenset()
    percent: float = 0.0
    late: bool = False

    @classmethod
    def of(cls, record: JobRecord) -> Final:
        """Convert the record of a job whose arguments hold its token."""
        by = defaultdict(set)
        for attempt in record.attempts:
            by[attempt.error.type == LOST_TYPE].add(attempt.lease)
        return cls(
            job=record.id,
            token=str(record.arguments["token"]),
            state=record.state,
            queue=record.queue,
            lease=record.lease,
            attempt=record.attempt,
            max_attempts=record.max_attempts,
            result=record.result,
            unique_key=record.unique_key,
            lost=frozenset(by[True]),
            failed=frozenset(by[False]),
            percent=record.progress.percent,
            late=record.error is not None and record.error.type == LATE_TYPE,
        )


@attrs.frozen(kw_only=True)
class Limit:
    """At most `most` concurrent runs among those with the same `group` (None: the limit does not apply to the run)."""

    name: str
    most: int
    group: Callable[[Run], Hashable | None]


@attrs.frozen(kw_only=True)
class History:
    """Everything known about what happened.

    aborts: the abort of each aborted job. requests: what was asked of a job, in the order of asking. reports: the last
    progress of each run, by job and lease. posts: the workers. returned: when each process had handed back all that it
    held. promised: the jobs whose terminal events each listener must receive.
    By process id: killed: when the process was killed. interrupted: spans in which it was killed or paused, so that it
    may have run on after losing its leases. late: spans around each report that it was late to renew its leases.
    cut_off: time from which on it may have lost leases while it could still stop its runs, so that late runs of it are
    violations. start_marked: leases whose runs were marked as started, if known; the process may have been killed
    between the mark and the handler's first line.
    """

    adds: Sequence[Add] = ()
    runs: Sequence[Run] = ()
    events: Sequence[Event] = ()
    results: Sequence[Result] = ()
    aborts: Mapping[UUID, Abort] = attrs.field(factory=dict)
    requests: Mapping[UUID, Sequence[Request]] = attrs.field(factory=dict)
    reports: Mapping[tuple[UUID, int], float] = attrs.field(factory=dict)
    posts: Sequence[Post] = ()
    returned: Mapping[int, float] = attrs.field(factory=dict)
    promised: Mapping[str, Collection[UUID]] = attrs.field(factory=dict)
    killed: Mapping[int, float] = attrs.field(factory=dict)
    interrupted: Mapping[int, Sequence[Span]] = attrs.field(factory=dict)
    late: Mapping[int, Sequence[Span]] = attrs.field(factory=dict)
    cut_off: Mapping[int, float] = attrs.field(factory=dict)
    start_marked: Collection[int] = frozenset()

    @property
    def disturbed(self) -> set[int]:
        """The ids of processes that were killed, paused or cut off."""
        return {*self.interrupted, *self.cut_off}


def read(lines: Iterable[Line]) -> History:
    """Build a history from the lines of a journal. Listeners of killed processes are promised no events."""
    adds: dict[str, Add] = {}
    runs: dict[tuple[UUID, int, int], Run] = {}
    events: list[Event] = []
    results: list[Result] = []
    aborts: dict[UUID, Abort] = {}
    requests: defaultdict[UUID, list[Request]] = defaultdict(list)
    reports: dict[tuple[UUID, int], float] = {}
    posts: dict[int, Post] = {}
    returned: dict[int, float] = {}
    promised: defaultdict[str, set[UUID]] = defaultdict(set)
    listeners: dict[str, int] = {}
    killed: dict[int, float] = {}
    interrupted: defaultdict[int, list[Span]] = defaultdict(list)
    cut_off: dict[int, float] = {}
    again: Counter[tuple[UUID, int]] = Counter()
    for line in lines:
        match line:
            case Asked():
                adds[line.token] = Add(
                    token=line.token,
                    asked=line.at,
                    unique_key=line.unique_key,
                    ends=JobState(line.ends),
                    due=line.due,
                )
            case Answered():
                adds[line.token] = attrs.evolve(
                    adds[line.token], answer=line.answer, answered=line.at, job=line.job, created=line.created
                )
            case Aborting():
                aborts[line.job] = Abort()
            case AbortAnswered():
                aborts[line.job] = Abort(answered=line.at, state=JobState(line.state))
            case Requesting():
                requests[line.job].append(Request(what=line.what, asked=line.at))
            case RequestAnswered():
                requests[line.job][-1] = attrs.evolve(requests[line.job][-1], answered=line.at, changed=line.changed)
            case Reported():
                reports[line.job, line.lease] = line.percent
            case Serving():
                posts[line.pid] = Post(pid=line.pid, slots=line.slots, start=line.at)
            case Stopped():
                if line.pid in posts:
                    posts[line.pid] = attrs.evolve(posts[line.pid], end=min(posts[line.pid].end, line.at))
                if line.ended:
                    returned[line.pid] = line.at
            case Started():
                again[line.job, line.lease] += 1
                runs[line.job, line.lease, again[line.job, line.lease]] = Run(
                    token=line.token,
                    job=line.job,
                    lease=line.lease,
                    start=line.at,
                    attempt=line.attempt,
                    worker=line.worker,
                    pid=line.pid,
                )
            case Ended():
                key = (line.job, line.lease, again[line.job, line.lease])
                runs[key] = attrs.evolve(runs[key], end=line.at, ending=line.ending)
            case Listening():
                promised[line.listener].add(line.job)
                listeners[line.listener] = line.pid
            case Heard():
                events.append(Event(listener=line.listener, job=line.job, state=JobState(line.state), at=line.at))
            case Told():
                results.append(Result(token=line.token, job=line.job, result=line.result))
            case Disturbed(how="cut off"):
                cut_off.setdefault(line.pid, line.at)
            case Disturbed(how="resumed"):
                begin, _ = interrupted[line.pid].pop()
                interrupted[line.pid].append((begin, line.at + NOTICE))
            case Disturbed():
                begin = line.at
                if interrupted[line.pid] and interrupted[line.pid][-1][1] >= line.at:
                    begin, _ = interrupted[line.pid].pop()  # it had no time to notice the previous one
                interrupted[line.pid].append((begin, float("inf")))
                if line.how == "killed":
                    killed[line.pid] = line.at
    return History(
        adds=list(adds.values()),
        runs=list(runs.values()),
        events=events,
        results=results,
        aborts=aborts,
        requests=dict(requests),
        reports=reports,
        posts=list(posts.values()),
        returned=returned,
        promised={name: jobs for name, jobs in promised.items() if listeners[name] not in killed},
        killed=killed,
        interrupted=dict(interrupted),
        cut_off=cut_off,
    )


def check(
    history: History,
    finals: Collection[Final],
    *,
    kept: Kept | None = None,
    limits: Collection[Limit] = (),
    removed: Collection[UUID] = (),
    retried: Collection[UUID] = (),
    stopped: Collection[UUID] = (),
    drained: bool = True,
    undisturbed: bool = False,
) -> list[Violation]:
    """Return all violations in a history.

    finals: every job left at the end. kept: contents of the storage's tables, if known. limits: limits to check.
    removed: jobs that may be missing; retried: jobs that a client retried; stopped: jobs that a client aborted or
    disabled. drained: whether all jobs had the time to end. undisturbed: True if the database was always available, so
    that only processes that the history says were disturbed may lose leases, and no job lost its place in line: a job
    whose add took the database seconds to commit goes to the end of it.
    """
    found: list[Violation] = []
    by_job: dict[UUID, Final] = {final.job: final for final in finals}
    runs: defaultdict[UUID, list[Run]] = defaultdict(list)
    for run in history.runs:
        runs[run.job].append(run)
    for of_one in runs.values():
        of_one.sort(key=lambda run: (run.start, run.lease))
    adds = {add.token: add for add in history.adds}
    found += _adds(history.adds, finals, set(by_job), set(removed))
    found += _leases(history.runs)
    for final in finals:
        its = runs[final.job]
        found += _attempts(final, its)
        if final.job not in retried:
            found += _after_the_end(final, its, history)
            found += _unexplained(final, its)
            found += _aborted(final, its, history)
        if add := adds.get(final.token):
            asked = any(request.what == "abort" for request in history.requests.get(final.job, ()))
            others = {JobState.ABORTED} if asked or final.job in history.aborts else set()
            found += _end(final, add, its, others, stopped=final.job in stopped)
        found += _unrun(final, its, history)
        if drained and not is_finished(final.state) and not (final.state is JobState.DISABLED and final.job in stopped):
            found.append(_of(Wrong.STUCK, final, f"it is still {final.state}"))
    for job, of_one in runs.items():
        found += _owners(job, of_one, history)
    for final in finals:
        if final.job not in retried:
            found += of_requests(final, history.requests.get(final.job, ()))
            found += progress_lost(final, runs[final.job], history.reports)
    if undisturbed:
        found += of_line(history, by_job, runs)
        found += _causes(finals, history)
        found += of_waiting(history, runs)
    found += _results(history.results, adds)
    found += _events(history, by_job, set(retried))
    for limit in limits:
        found += _limit(limit, history)
    found += _keys(history.adds, runs, finals)
    if kept is not None:
        found += check_tables(kept, standing(finals))
    return found


def standing(finals: Iterable[Final]) -> Counter[tuple[str, JobState]]:
    """Count jobs by queue and state."""
    return Counter((final.queue, final.state) for final in finals)


def recoveries(history: History) -> list[float]:
    """Return the seconds from each interruption of a run until the next run of the same job."""
    runs: defaultdict[UUID, list[Run]] = defaultdict(list)
    for run in history.runs:
        runs[run.job].append(run)
    waits = []
    for of_one in runs.values():
        of_one.sort(key=lambda run: run.lease)
        for run, following in itertools.pairwise(of_one):
            interruption = _interruption_of(run.pid, history)
            if (
                interruption is not None
                and interruption <= following.start
                and (run.end is None or run.end > interruption)
            ):
                waits.append(following.start - max(interruption, run.start))
    return waits


def _interruption_of(pid: int, history: History) -> float | None:
    known = [begin for begin, _ in history.interrupted.get(pid, ())]
    if pid in history.cut_off:
        known.append(history.cut_off[pid])
    return min(known or (begin for begin, _ in history.late.get(pid, ())), default=None)


def _of(wrong: Wrong, job: Final | Add | Run, details: str) -> Violation:
    return Violation(wrong=wrong, subject=f"{job.token} ({job.job})", details=details)


def _adds(adds: Sequence[Add], finals: Collection[Final], there: set[UUID], removed: set[UUID]) -> Iterable[Violation]:
    kept = Counter(final.token for final in finals)
    for add in adds:
        if add.answer == "acknowledged" and add.job not in there and add.job not in removed:
            yield _of(Wrong.LOST, add, "its add was acknowledged, but the job is missing")
        if add.answer == "refused" and kept[add.token]:
            yield _of(Wrong.KEPT_THOUGH_REFUSED, add, "its add was refused, but the job exists")
        if kept[add.token] > 1:
            yield _of(Wrong.ADDED_TWICE, add, f"{kept[add.token]} jobs exist for it")


def _leases(runs: Sequence[Run]) -> Iterable[Violation]:
    by_lease: defaultdict[int, list[Run]] = defaultdict(list)
    for run in runs:
        by_lease[run.lease].append(run)
    for lease, of_one in by_lease.items():
        if len(of_one) > 1:
            yield _of(Wrong.LEASE_TWICE, of_one[0], f"lease {lease} ran {len(of_one)} times")


def _owners(job: UUID, runs: list[Run], history: History) -> Iterable[Violation]:
    """Check each pair of a job's runs, in the order of their starts."""
    for index, run in enumerate(runs):
        for later in runs[index + 1 :]:
            if later.lease < run.lease and not _interrupted(later, history, later.start, later.start):
                yield _of(Wrong.DOUBLY_OWNED, later, f"lease {later.lease} began after lease {run.lease} had begun")
            elif (
                later.lease > run.lease
                and (end := _end_of(run, history)) > later.start
                and not _interrupted(run, history, later.start, end)
            ):
                yield _of(Wrong.DOUBLY_OWNED, run, f"lease {run.lease} still ran when lease {later.lease} began")


def _end_of(run: Run, history: History) -> float:
    """Return the latest known moment of a run: its end, the kill of its process, or its start if neither is known."""
    return run.end if run.end is not None else history.killed.get(run.pid, run.start)


def _interrupted(run: Run, history: History, since: float, until: float) -> bool:
    """Return whether the run's process was interrupted or late during the whole time."""
    spans = (*history.interrupted.get(run.pid, ()), *history.late.get(run.pid, ()))
    return any(begin <= since and until <= end for begin, end in spans)


def _after_the_end(final: Final, runs: list[Run], history: History) -> Iterable[Violation]:
    if not is_finished(final.state):
        return
    announced = min((event.at for event in history.events if event.job == final.job), default=float("inf"))
    last = max([*final.lost, *final.failed, *([] if final.lease is None else [final.lease])], default=None)
    for run in runs:
        if last is not None and run.lease > last and run.ending != "stopped":
            yield _of(Wrong.AFTER_THE_END, run, f"lease {run.lease} ran after lease {last} had ended the job")
        elif run.start > announced and not _interrupted(run, history, run.start, run.start):
            yield _of(
                Wrong.AFTER_THE_END,
                run,
                f"lease {run.lease} began {run.start - announced:.3f} s after the end was announced",
            )


def _aborted(final: Final, runs: list[Run], history: History) -> Iterable[Violation]:
    abort = history.aborts.get(final.job)
    if abort is None or abort.state is None:
        return
    over = is_finished(abort.state)
    if not over and final.state is JobState.FAILED:
        yield _of(Wrong.LAST_WORD, final, "a run that was asked to stop failed it")
    if over and final.state is not abort.state:
        yield _of(Wrong.WRONG_END, final, f"it is {final.state}, but the abort was answered with {abort.state}")
    # A job that is asked to stop may run on under its current lease only; the end of that lease ends the job.
    leases = {
        run.lease
        for run in runs
        if (run.start if over else _end_of(run, history)) > abort.answered
        and not _interrupted(run, history, moment := max(run.start, abort.answered), moment)
    }
    if len(leases) > (0 if over else 1):
        yield _of(
            Wrong.THOUGH_ABORTED,
            final,
            f"the abort was answered with {abort.state}; leases {sorted(leases)} ran afterwards",
        )


def _unexplained(final: Final, runs: list[Run]) -> Iterable[Violation]:
    if final.state is JobState.PROCESSING:
        return  # its current lease is held; earlier runs are checked once the job has ended
    explained = final.lost | final.failed | {final.lease}
    for run in runs:
        if run.lease not in explained and run.ending != "stopped":
            yield _of(
                Wrong.UNEXPLAINED,
                run,
                f"lease {run.lease} ran, but the job ended under {final.lease}, and its record has: "
                f"lost {sorted(final.lost)}, failed {sorted(final.failed)}",
            )


def _attempts(final: Final, runs: list[Run]) -> Iterable[Violation]:
    spent = len(final.lost | final.failed)
    if final.attempt > final.max_attempts or max((run.attempt for run in runs), default=0) > final.max_attempts:
        yield _of(Wrong.TOO_MANY_ATTEMPTS, final, f"{final.attempt} attempts of {final.max_attempts}, {spent} spent")


def _end(
    final: Final, add: Add, runs: list[Run], others: Collection[JobState], *, stopped: bool
) -> Iterable[Violation]:
    """Check a job's end against its expected state (or one of `others`) and against its last run."""
    if not is_finished(final.state):
        return
    last = next((run for run in runs if run.lease == final.lease), None)
    if final.state is JobState.COMPLETED:
        if last is None:
            yield _of(Wrong.WRONG_END, final, f"it completed under lease {final.lease}, which never ran")
        elif last.ending not in ("completed", None):
            yield _of(
                Wrong.WRONG_END, final, f"it completed, but the run of lease {final.lease} ended as {last.ending}"
            )
        if final.lease is not None and any(lease > final.lease for lease in (final.lost | final.failed)):
            yield _of(Wrong.STALE_WRITE, final, f"it completed under lease {final.lease}, which had ended")
        wanted = add.token if add.result is None else add.result
        if final.result != wanted:
            yield _of(Wrong.WRONG_RESULT, final, f"{final.result!r} instead of {wanted!r}")
        if final.lease in final.lost:
            yield _of(Wrong.STALE_WRITE, final, f"it completed under lease {final.lease}, which had been lost")
    if add.ends is not None and final.state not in {add.ends, *others} and not stopped:
        yield _of(Wrong.WRONG_END, final, f"it ended as {final.state} instead of {add.ends}")


def _unrun(final: Final, runs: list[Run], history: History) -> Iterable[Violation]:
    if final.state is not JobState.FAILED or final.lease not in final.lost or final.lease in history.start_marked:
        return
    if not final.late and not any(run.lease == final.lease for run in runs):
        yield _of(Wrong.FAILED_UNRUN, final, f"lease {final.lease} was lost, and no run had begun under it")


def _causes(finals: Collection[Final], history: History) -> Iterable[Violation]:
    pids = {run.lease: run.pid for run in history.runs}
    explained = {*history.disturbed, *history.late}
    for final in finals:
        for lease in sorted(final.lost):
            pid = pids.get(lease)
            if pid is not None and pid not in explained:
                yield _of(Wrong.LOST_WITHOUT_CAUSE, final, f"process {pid} lost lease {lease}")


def _results(results: Sequence[Result], adds: Mapping[str, Add]) -> Iterable[Violation]:
    for told in results:
        add = adds[told.token]
        wanted = add.token if add.result is None else add.result
        if told.result != wanted:
            yield _of(Wrong.WRONG_RESULT, add, f"a waiter was told {told.result!r} instead of {wanted!r}")


def _events(history: History, by_job: Mapping[UUID, Final], retried: set[UUID]) -> Iterable[Violation]:
    received: defaultdict[tuple[str, UUID], list[JobState]] = defaultdict(list)
    for event in history.events:
        received[event.listener, event.job].append(event.state)
    for (listener, job), states in received.items():
        final = by_job.get(job)
        if job in retried or final is None:
            continue
        if len(states) > 1:
            yield _of(Wrong.EVENT_TWICE, final, f"{listener} received {', '.join(states)}")
        elif states[0] is not final.state:
            yield _of(Wrong.EVENT_WRONG, final, f"{listener} received {states[0]}, but the job is {final.state}")
    for listener, jobs in history.promised.items():
        for job in jobs:
            final = by_job.get(job)
            if final is not None and is_finished(final.state) and (listener, job) not in received:
                yield _of(Wrong.EVENT_MISSING, final, f"{listener} received no event, and the job is {final.state}")


def _limit(limit: Limit, history: History) -> Iterable[Violation]:
    moments: defaultdict[Hashable, list[tuple[float, int]]] = defaultdict(list)
    for run in history.runs:
        group = limit.group(run)
        if group is not None:
            moments[group] += [(run.start, 1), (max(_end_of(run, history), run.start), -1)]
    for group, of_one in moments.items():
        at_once = most = 0
        for _, step in sorted(of_one):  # at the same moment, ends come before starts
            at_once += step
            most = max(most, at_once)
        if most > limit.most:
            details = f"{most} runs at once, {limit.most} allowed"
            yield Violation(wrong=Wrong.LIMIT, subject=f"{limit.name} {group}", details=details)


def _keys(adds: Sequence[Add], runs: Mapping[UUID, list[Run]], finals: Collection[Final]) -> Iterable[Violation]:
    unfinished: defaultdict[str, list[Final]] = defaultdict(list)
    for final in finals:
        if final.unique_key is not None and not is_finished(final.state):
            unfinished[final.unique_key].append(final)
    for key, several in unfinished.items():
        if len(several) > 1:
            jobs = ", ".join(f"{final.job} ({final.state})" for final in several)
            yield _of(Wrong.KEY_DOUBLED, several[0], f"key {key!r} belongs to {jobs}")
    keyed: defaultdict[str, list[Add]] = defaultdict(list)
    for add in adds:
        if add.unique_key is not None and add.answer == "acknowledged" and add.created and add.job is not None:
            keyed[add.unique_key].append(add)
    for key, several_adds in keyed.items():
        for first in several_adds:
            assert first.job is not None
            # A job certainly held its key from the answer to its add until the start of its last run.
            held_until = max((run.start for run in runs.get(first.job, ())), default=first.answered)
            for other in several_adds:
                if first.job != other.job and first.answered <= other.asked and other.answered <= held_until:
                    yield _of(Wrong.KEY_DOUBLED, other, f"key {key!r} belonged to {first.job}, which had not ended")
