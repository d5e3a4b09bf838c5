"""The reads of a storage that pages, commands, metrics and the autoscaler make, by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from jobq_core.doctor import examine
from jobq_core.failures import failures
from jobq_core.states import JobState
from jobq_core.storage import JobFilter, QueueStorage
from jobq_server.autoscaling.look import BacklogReader
from jobq_worker.metrics import StorageMetrics

HOUR: Final = timedelta(hours=1)
NOBODY: Final = UUID(int=5)
"""A worker that ran nothing."""

Read = Callable[[], Awaitable[object]]


async def make_reads(storage: QueueStorage) -> dict[str, Read]:
    """Return the reads of a storage with a week of jobs."""
    now = await storage.now()
    filters = make_filters(now)
    pending = (await storage.find(JobFilter(states=[JobState.PENDING]), limit=1)).jobs[0]
    first = await storage.find(JobFilter())
    counted = {name: wanted for name, wanted in filters.items() if wanted.worker is None}
    queues = [f"queue{number}" for number in range(8)]
    return {
        "depths": storage.depths,
        "depths of a queue": lambda: storage.depths("queue3"),
        "depths of an hour": storage.depth_history,
        "depths of a day": lambda: storage.depth_history(since=now - 24 * HOUR, step=600),
        "depths of a week": lambda: storage.depth_history(since=now - 168 * HOUR, step=3600),
        "statistics of an hour": storage.statistics,
        "statistics of a day": lambda: storage.statistics(since=now - 24 * HOUR, step=600),
        "statistics of a week": lambda: storage.statistics(since=now - 168 * HOUR, step=3600),
        "statistics of a week, a queue": lambda: storage.statistics("queue3", since=now - 168 * HOUR, step=3600),
        **{f"find {name}": _finding(storage, wanted) for name, wanted in filters.items()},
        "find all, second page": lambda: storage.find(JobFilter(), after=first.cursor),
        **{f"count {name}": _counting(storage, wanted) for name, wanted in counted.items()},
        "jobs ahead": lambda: storage.jobs_ahead(pending.id),
        "get": lambda: storage.get([pending.id]),
        "failures": lambda: failures(storage),
        "failures of a queue": lambda: failures(storage, queue="queue3"),
        "workers": storage.workers,
        "queues": storage.queues,
        "operations": storage.operations,
        "audit": storage.audit,
        "diagnose": storage.diagnose,
        "doctor": lambda: examine(storage),
        "autoscaler": lambda: BacklogReader(lambda: storage, queues).look(0.0),
        "metrics": lambda: StorageMetrics(storage).read(),
    }


def make_filters(now: datetime) -> Mapping[str, JobFilter]:
    """Return filters by name. Of those that match nothing, the jobs that could match are read."""
    failed, pending = [JobState.FAILED], [JobState.PENDING]
    waiting = [JobState.PENDING, JobState.SCHEDULED, JobState.BLOCKED, JobState.DISABLED]
    return {
        "all": JobFilter(),
        **{state.value: JobFilter(states=[state]) for state in JobState},
        "waiting": JobFilter(states=waiting),
        "of a queue": JobFilter(queue="queue3"),
        "of a kind": JobFilter(kinds=("kind3.1",)),
        "of a kind of another queue": JobFilter(queue="queue3", kinds=("kind4.1",)),
        "of a kind that no job has": JobFilter(kinds=("none",)),
        "of a queue that no job has": JobFilter(queue="none"),
        "failed of a queue": JobFilter(states=failed, queue="queue3"),
        "failed of a kind": JobFilter(states=failed, kinds=("kind3.1",)),
        "pending of a queue": JobFilter(states=pending, queue="queue3"),
        "pending of a kind": JobFilter(states=pending, kinds=("kind3.1",)),
        "pending of a kind that no job has": JobFilter(states=pending, kinds=("none",)),
        "scheduled of a queue": JobFilter(states=[JobState.SCHEDULED], queue="queue3"),
        "with a tag": JobFilter(tags=("customer:76",)),
        "failed with a tag": JobFilter(tags=("customer:76",), states=failed),
        "with a tag that no job has": JobFilter(tags=("none",)),
        "of a run": JobFilter(run_id="run7"),
        "of the last minutes": JobFilter(since=now - HOUR / 20),
        "of the last hour": JobFilter(since=now - HOUR),
        "of an hour": JobFilter(since=now - 73 * HOUR, until=now - 72 * HOUR),
        "until three days ago": JobFilter(until=now - 72 * HOUR),
        "failed of a day": JobFilter(states=failed, since=now - 24 * HOUR),
        "pending of a day": JobFilter(states=pending, since=now - 24 * HOUR),
        "of a day of a queue": JobFilter(queue="queue3", since=now - 24 * HOUR),
        "of a day of a kind": JobFilter(kinds=("kind3.1",), since=now - 24 * HOUR),
        "of a day of a kind that no job has": JobFilter(kinds=("none",), since=now - 24 * HOUR),
        "blocked of a week": JobFilter(states=[JobState.BLOCKED], since=now - 168 * HOUR),
        "failed of a day of a queue": JobFilter(
            queue="queue3", states=failed, since=now - 72 * HOUR, until=now - 48 * HOUR
        ),
        "by error": JobFilter(error="host 16 did not", states=failed),
        "by an error that no job has": JobFilter(error="none"),
        "by an error of a queue that no job has": JobFilter(error="none", queue="queue3"),
        "by type of error": JobFilter(error_type="TimeoutError"),
        "by argument": JobFilter(argument=("customer", "c77")),
        "by an argument that no job has": JobFilter(argument=("customer", "none")),
        "by an argument of a queue": JobFilter(argument=("customer", "none"), queue="queue3"),
        "by an argument with a tag": JobFilter(argument=("order_id", -7), tags=("customer:76",)),
        "by worker": JobFilter(worker=UUID("00000000-0000-7000-8000-000000000007")),
        "by worker that ran nothing": JobFilter(worker=NOBODY),
        "failed by worker that ran nothing": JobFilter(worker=NOBODY, states=failed),
        "running by worker": JobFilter(worker=NOBODY, states=[JobState.PROCESSING]),
    }


def _finding(storage: QueueStorage, wanted: JobFilter) -> Read:
    return lambda: storage.find(wanted)


def _counting(storage: QueueStorage, wanted: JobFilter) -> Read:
    return lambda: storage.count(wanted)
