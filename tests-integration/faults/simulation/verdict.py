"""The verdict on a schedule: the checker that all fault tests share, and checks that need the schedule's plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any
from uuid import UUID

import attrs
import history
from life import free_since
from wrong import Wrong, WrongInside

from jobq_core import AbortSignalJobError, JobNotFoundError
from jobq_core.encoding import decode
from jobq_core.states import JobState, is_finished
from jobq_worker.outages import BACKOFF

from .journal import Journal
from .process import Process
from .programs import result_of
from .scenario import Scenario
from .truth import Truth

LATE = 0.5
"""Seconds beyond the interval of polling for which a job may wait beside a free slot: the calls and the turns of the
loops in between."""


def judge(scenario: Scenario, truth: Truth, journal: Journal, processes: Collection[Process]) -> None:
    """Record every broken promise in the journal."""
    retried, removed = truth.jobs_that_were("retry"), truth.jobs_that_were("delete")
    stopped = truth.jobs_that_were("abort") | truth.jobs_that_were("disable")
    rows = [row for row in truth.store.jobs.values() if row.queue.name == "simulated"]
    found = history.check(
        _history(truth, journal, processes, removed),
        [_final(truth, row) for row in rows if row.job.id not in removed],
        retried=retried,
        removed=removed,
        stopped=stopped,
    )
    for each in found:
        journal.violated(each.wrong, f"{each.subject}: {each.details}")
    for row in rows:
        _judge_end(scenario, truth, journal, row)
    _judge_failures(truth, journal)
    _judge_progress(truth, journal)
    _judge_waiting(scenario, truth, journal, processes)
    _judge_results(truth, journal, retried | removed)
    keys = truth.held_keys()
    if truth.store.running or keys:
        journal.violated(Wrong.STUCK, f"left over: {truth.store.running}, {keys}")


def _history(
    truth: Truth, journal: Journal, processes: Collection[Process], removed: Collection[UUID]
) -> history.History:
    # Deleted jobs are left out: their rows are gone, and a late duplicate of the add may make a job again that nobody
    # waits for.
    alive = {process.name for process in processes if process.killed is None}
    promised: dict[str, set[UUID]] = {}
    for client, job, _ in journal.results:
        if client in alive and job not in removed:
            promised.setdefault(client, set()).add(job)
    return history.History(
        adds=[
            history.Add(
                token=str(add.token),
                answer=add.answer,
                asked=add.asked,
                answered=add.answered,
                job=add.job,
                created=add.created,
                unique_key=add.unique_key,
                result=result_of(add.token),
                ends=None,
                due=False,  # `lines` knows the places exactly
            )
            for add in journal.adds
        ],
        runs=[
            history.Run(
                token=str(run.token),
                job=run.job,
                lease=run.lease,
                start=run.started,
                attempt=min(run.attempt, truth.most_attempts(run.job)),
                worker=run.worker,
                pid=run.process.pid,
                end=run.ended,
                ending=run.how,
            )
            for run in journal.runs
            if run.job not in removed
        ],
        events=[event for event in journal.events if event.job not in removed],
        promised=promised,
        killed={process.pid: process.killed for process in processes if process.killed is not None},
        interrupted={
            process.pid: [(process.interrupted, float("inf"))]
            for process in processes
            if process.interrupted is not None
        },
        start_marked={lease.number for lease in truth.leases.values() if lease.marked is not None},
    )


def _final(truth: Truth, row: Any) -> history.Final:
    final = history.Final.of(row.record())
    # A job that was disabled in its last attempt runs once more after it is enabled.
    return attrs.evolve(final, max_attempts=max(final.max_attempts, truth.most_attempts(final.job)))


def _judge_end(scenario: Scenario, truth: Truth, journal: Journal, row: Any) -> None:
    """Check that a job that did not complete had a cause for its end."""
    job = row.job.id
    plan = scenario.jobs[decode(row.job.arguments)["token"]]
    if row.state is JobState.ABORTED and not truth.asked[job]["abort"]:
        journal.violated(Wrong.WRONG_END, f"nobody aborted job {job}")
    elif row.state is JobState.FAILED:
        spent = row.attempt >= row.job.max_attempts
        leases = [lease for lease in truth.leases.values() if lease.job == job]  # none if it expired before its start
        causes = {
            "ValueError": plan.failures > 0 and spent,
            "JobTimeoutError": "timeout" in plan.options and spent,
            "JobDeadlineError": "deadline" in plan.options,
            "WorkerLostError": spent and max(leases, key=lambda lease: lease.number).ended_by == "rescue",
        }
        if not causes.get(row.error.type.rpartition(".")[2], False):
            journal.violated(Wrong.WRONG_END, f"job {job} failed in attempt {row.attempt} with {row.error}")


def _judge_failures(truth: Truth, journal: Journal) -> None:
    """Check that each failure has one follow-up, or is kept for it."""
    failed = Counter(str(job) for job, _ in truth.failures)
    rows = [row for row in truth.store.jobs.values() if row.queue.name == "failures"]
    followed = Counter(decode(row.job.arguments)["job_id"] for row in rows)
    kept = Counter(str(end.id) for end in truth.store.ended)
    if followed + kept != failed:
        journal.violated(WrongInside.FOLLOWED, f"failed: {failed}; followed: {followed}; kept: {kept}")


def _judge_progress(truth: Truth, journal: Journal) -> None:
    """Check that what the last run of each job reported last is on record, unless a retry by hand has cleared it."""
    retried = truth.jobs_that_were("retry")
    for run in journal.runs:
        row = truth.store.jobs.get(run.job)
        if row is None or row.lease != run.lease or run.told or run.how is None or run.percent is None:
            continue
        lease = truth.leases[run.lease]
        if run.job in retried and lease.state is not None and is_finished(lease.state):
            continue
        if lease.ended_by == "settle_and_claim" and row.read_progress().percent != run.percent:
            journal.violated(
                Wrong.PROGRESS_LOST,
                f"the run of job {run.job} under {lease} reported {run.percent} %, and {row.progress} is kept",
            )


def _judge_waiting(scenario: Scenario, truth: Truth, journal: Journal, processes: Collection[Process]) -> None:
    """Check that no job waited beside a worker with a free slot, once the faults had stopped."""
    if scenario.mode in ("limits", "stopping"):
        return  # a limiter withholds starts, and a worker that stops claims nothing
    # By then each call that was made before the calm is answered, and each backoff that followed is over.
    quiet = scenario.calm_at + scenario.limit + BACKOFF.maximum
    known = {process.name: process for process in processes}
    for lease in truth.leases.values():
        for name, since in lease.serving.items():
            process = known[name]
            begin = max(lease.pending, quiet, since, process.resumed)
            if lease.claimed - begin <= LATE + scenario.poll or process.killed is not None or process.held_since:
                continue
            free = _free_since(process, journal, lease.claimed)
            if lease.claimed - max(begin, free) > LATE + scenario.poll:
                journal.violated(Wrong.IDLE_BESIDE, f"{name} had a free slot since {max(begin, free):.3f}; {lease}")


def _free_since(process: Process, journal: Journal, until: float) -> float:
    """Return since when a process has had a free slot all the time, at the moment `until`."""
    moments: list[tuple[float, int]] = []
    for run in journal.runs:
        if run.process is process and run.started < until:
            stubborn = process.stage.scenario.jobs[run.token].stubborn if run.told else 0.0
            moments.append((run.started, 1))
            moments.append((float("inf") if run.ended is None else run.ended + stubborn, -1))
    return free_since(moments, process.limits.concurrency, until)


def _judge_results(truth: Truth, journal: Journal, left_out: Collection[UUID]) -> None:
    """Compare what each waiter was told with the job's state."""
    for who, job, told in journal.results:
        row = truth.store.jobs.get(job)
        if row is None or job in left_out:
            continue
        fits = {
            JobState.COMPLETED: row.result is not None and told == decode(row.result),
            JobState.FAILED: isinstance(told, Exception),
            JobState.ABORTED: told is AbortSignalJobError,
        }
        if told is JobNotFoundError or not fits.get(row.state, False):
            journal.violated(Wrong.WRONG_RESULT, f"{who} was told {told!r} for job {job}, which is {row.state}")
