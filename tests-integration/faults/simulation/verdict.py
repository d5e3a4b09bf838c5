"""The verdict on a schedule: the checker that all fault tests share, and checks that need the schedule's plan."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

import attrs
import history
from wrong import Wrong

from jobq_core import AbortSignalJobError, JobNotFoundError
from jobq_core.encoding import decode
from jobq_core.states import JobState

from .journal import Journal
from .process import Process
from .programs import result_of
from .scenario import Scenario
from .truth import Truth


def judge(scenario: Scenario, truth: Truth, journal: Journal, processes: Collection[Process]) -> None:
    """Record every broken promise in the journal."""
    retried, removed = truth.jobs_that_were("retry"), truth.jobs_that_were("delete")
    stopped = truth.jobs_that_were("abort") | truth.jobs_that_were("disable")
    found = history.check(
        _history(truth, journal, processes, removed),
        [_final(truth, row) for job, row in truth.store.jobs.items() if job not in removed],
        retried=retried,
        removed=removed,
        stopped=stopped,
    )
    for each in found:
        journal.violated(each.wrong, f"{each.subject}: {each.details}")
    for row in truth.store.jobs.values():
        _judge_end(scenario, truth, journal, row)
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
        last = max(lease.number for lease in truth.leases.values() if lease.job == job)
        causes = {
            "ValueError": plan.failures > 0 and spent,
            "JobTimeoutError": "timeout" in plan.options and spent,
            "JobDeadlineError": "deadline" in plan.options,
            "WorkerLostError": spent and truth.leases[last].ended_by == "rescue",
        }
        if not causes.get(row.error.type.rpartition(".")[2], False):
            journal.violated(Wrong.WRONG_END, f"job {job} failed in attempt {row.attempt} with {row.error}")


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
