"""What a worker tells the storage about itself: versions when it registers, and statistics with each heartbeat."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from msgspec.structs import replace

from jobq_core.records import WorkerStats
from jobq_core.storage import QueueStorage
from jobq_worker.claiming.grants import Grants
from jobq_worker.notifications import Notifications
from jobq_worker.running.pipeline import Pipeline
from jobq_worker.running.slots import Slots
from jobq_worker.sizes import resident_bytes

MOST_WAITING: Final = 1_000
"""The number of jobs that wait for a handler process and are named, the next ones first: 38 KB."""


def versions_of(storage: QueueStorage) -> dict[str, str]:
    """Return the versions of Python and of the distributions of the core, the worker and the storage."""
    found = {"python": platform.python_version()}
    for module in ("jobq_core", "jobq_worker", type(storage).__module__.partition(".")[0]):
        name = module.replace("_", "-")
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # a storage of the program itself
    return found


def stats_with_facts(
    slots: Slots, notifications: Notifications, grants: Grants | None, pipeline: Pipeline
) -> Callable[[], WorkerStats]:
    """Return a function that returns the counts of the slots with the present facts. It may be called from any
    thread."""

    def stats() -> WorkerStats:
        return replace(
            slots.stats(),
            hears=notifications.hears,
            limited=None if grants is None else grants.opens_in,
            memory=resident_bytes(),
            awaiting_process=tuple([run.job.id for run in [*pipeline.awaiting_process][:MOST_WAITING]]),
        )

    return stats
