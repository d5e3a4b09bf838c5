"""The time of each read that the pages of operators make."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from figures import Figures, percentiles
from plan import Variant
from players import Player
from targets import Targets

from jobq_core import open_storage
from jobq_core.states import JobState
from jobq_core.storage import JobFilter, QueueStorage

HOUR: Final = timedelta(hours=1)

Read = Callable[[], Awaitable[object]]


def read_pages(player: Player, targets: Targets, variant: Variant) -> Figures:
    """Make each read of the pages as often as the variant has jobs; the compared figure is that of the slowest one."""
    times = asyncio.run(_times(targets.with_week(player, variant), variant.jobs))
    slowest = max(times, key=lambda name: times[name]["p95"])
    more = {f"{name}, {p} ms": value for name, found in times.items() for p, value in found.items() if p != "p99"}
    return Figures(
        value=times[slowest]["p95"], jobs=len(times), asked=len(times), note=f"slowest: {slowest}", more=more
    )


async def _times(url: str, calls: int) -> dict[str, dict[str, float]]:
    async with open_storage(url) as storage:
        await storage.sample_depths()
        found: dict[str, dict[str, float]] = {}
        for name, read in (await _reads(storage)).items():
            seconds: list[float] = []
            for _ in range(calls):
                began = time.perf_counter()
                await read()
                seconds.append(time.perf_counter() - began)
            found[name] = percentiles(seconds) or {}
        return found


async def _reads(storage: QueueStorage) -> dict[str, Read]:
    """Return the reads by name."""
    now = await storage.now()
    first = await storage.find(JobFilter())
    pending = (await storage.find(JobFilter(states=[JobState.PENDING]), limit=1)).jobs
    waiting = [JobState.PENDING, JobState.SCHEDULED, JobState.BLOCKED, JobState.DISABLED]
    filters = {
        "all": JobFilter(),
        **{state.value: JobFilter(states=[state]) for state in JobState},
        "failed of a queue": JobFilter(states=[JobState.FAILED], queue="queue3"),
        "pending of a kind": JobFilter(states=[JobState.PENDING], kinds=("kind3.1",)),
        "waiting": JobFilter(states=waiting),
        "of a queue": JobFilter(queue="queue3"),
        "of a kind": JobFilter(kinds=("kind3.1",)),
        "with a tag": JobFilter(tags=("customer:77",)),
        "of a run": JobFilter(run_id="run7"),
        "of an hour": JobFilter(since=now - 73 * HOUR, until=now - 72 * HOUR),
        "failed of a day": JobFilter(states=[JobState.FAILED], since=now - 24 * HOUR),
        "by error": JobFilter(error="host 16 did not", states=[JobState.FAILED]),
        "by argument": JobFilter(argument=("customer", "c77")),
    }
    counts = ("all", "failed", "pending", "of a queue", "of a kind", "with a tag", "of an hour", "failed of a day")
    return {
        "depths": storage.depths,
        "depths of an hour": storage.depth_history,
        "depths of a day": lambda: storage.depth_history(since=now - 24 * HOUR, step=600),
        "depths of a week": lambda: storage.depth_history(since=now - 168 * HOUR, step=3600),
        "statistics of an hour": storage.statistics,
        "statistics of a day": lambda: storage.statistics(since=now - 24 * HOUR, step=600),
        "statistics of a week": lambda: storage.statistics(since=now - 168 * HOUR, step=3600),
        **{f"find {name}": _finding(storage, wanted) for name, wanted in filters.items()},
        "find all, second page": lambda: storage.find(JobFilter(), after=first.cursor),
        "find 2,000 failed": lambda: storage.find(JobFilter(states=[JobState.FAILED]), limit=2_000),
        **{f"count {name}": _counting(storage, filters[name]) for name in counts},
        "jobs ahead": lambda: storage.jobs_ahead(pending[0].id),
        "get": lambda: storage.get([first.jobs[0].id]),
        "workers": storage.workers,
        "queues": storage.queues,
        "operations": storage.operations,
        "audit": storage.audit,
        "diagnose": storage.diagnose,
    }


def _finding(storage: QueueStorage, wanted: JobFilter) -> Read:
    return lambda: storage.find(wanted)


def _counting(storage: QueueStorage, wanted: JobFilter) -> Read:
    return lambda: storage.count(wanted)
