"""What a reason is judged by, and how times are said in it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from jobq_core.records import WorkerRecord
from jobq_core.storage import AuditEntry, QueueRecord

AHEAD: Final = 100_000
"""The number of jobs ahead that are counted at most."""
PROMOTED_SECONDS: Final = 15.0
"""How late a due job may start before nobody seems to do the maintenance."""
LAG_SECONDS: Final = 1.0
"""How long an event loop may not answer before it counts as blocked."""


class Reason(Struct, frozen=True):
    """Why a job does not run, or how it ended.

    code: a stable name, such as 'queue-paused'. sentence: for people. at: the moment that it names, if it names one.
    """

    code: str
    sentence: str
    at: datetime | None = None


class Facts(Struct, frozen=True, kw_only=True):
    """What `explain` judges, beside the job. now: by the storage's clock.

    ahead: the number of jobs that are claimed before it, AHEAD at most; None if it is not PENDING.
    audit: what operators did to it, newest first, as `audit_of` returns it.
    """

    now: datetime
    workers: Sequence[WorkerRecord] = ()
    queues: Sequence[QueueRecord] = ()
    ahead: int | None = None
    audit: Sequence[AuditEntry] = ()

    @property
    def alive(self) -> list[WorkerRecord]:
        """The workers whose heartbeat has not expired."""
        return [worker for worker in self.workers if worker.is_alive(self.now)]

    def serving(self, queue: str) -> list[WorkerRecord]:
        """The live workers that serve a queue."""
        return [worker for worker in self.alive if queue in worker.info.queues]


def say_time(at: datetime) -> str:
    """Return a moment in UTC, to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def say_span(span: timedelta | float) -> str:
    """Return a duration in one unit: '3 h', '12 s', '0.4 s'."""
    seconds = span.total_seconds() if isinstance(span, timedelta) else span
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{max(seconds, 0):.1g} s" if seconds < 1 else f"{seconds:.1f} s"
