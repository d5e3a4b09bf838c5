"""`JobContext`: a handler's view of its own run, and its way to report progress."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from jobq_core.checks import Seconds, is_number, to_seconds
from jobq_core.encoding import MAX_DETAILS, MAX_MESSAGE, check_text, encode
from jobq_core.errors import AbortSignalJobError, InvalidJobError
from jobq_core.records import Progress
from jobq_core.reprs import short_repr


def check_progress(percent: float, message: str | None, details: Any) -> Progress:
    """Return a Progress; raises InvalidJobError for a percent outside 0 to 100, for details without a JSON
    form, and for a message or details that are too large."""
    if not is_number(percent) or not 0 <= percent <= 100:  # NaN fails this too
        raise InvalidJobError(f"progress must be from 0 to 100, not {short_repr(percent)}")
    if message is not None:
        if not isinstance(message, str):
            raise InvalidJobError(f"a progress message must be text, not {short_repr(message)}")
        check_text(message, "progress message")
        if len(message) > MAX_MESSAGE // 4 and len(message.encode()) > MAX_MESSAGE:
            raise InvalidJobError(f"a progress message must have at most {MAX_MESSAGE // 1024} KiB of UTF-8")
    if details is not None:
        encode(details, "progress details", MAX_DETAILS)
    return Progress(percent=float(percent), message=message, details=details)


class JobContext:
    """Passed to a handler whose first parameter is annotated JobContext. Its methods may be called from any thread.

    A test of a handler makes one with `JobContext()`, whose progress goes nowhere. It has more than 12 attributes since
    most are the job's own.
    """

    def __init__(
        self,
        *,
        job_id: UUID | None = None,
        kind: str = "",
        queue: str = "default",
        attempt: int = 1,
        max_attempts: int = 10,
        lease: int = 0,
        worker: UUID | None = None,
        run_id: str | None = None,
        tags: tuple[str, ...] = (),
        deadline: datetime | None = None,
        report: Callable[[Progress], None] | None = None,
    ) -> None:
        self.job_id = job_id or uuid4()
        self.kind = kind
        self.queue = queue
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.lease = lease
        self.worker = worker
        self.run_id = run_id
        self.tags = tags
        self.deadline = deadline
        self._report = report
        self._stop = threading.Event()

    def progress(self, percent: float, message: str | None = None, details: Any = None) -> None:
        """Report progress: percent from 0 to 100, a line of text, and details of any type that jobq stores.

        Returns at once; the storage gets the last of several reports in quick succession. Raises InvalidJobError for a
        percent out of range, for details without a JSON form, and for a message or details of more than 64 KiB.
        """
        progress = check_progress(percent, message, details)
        if self._report is not None:
            self._report(progress)

    @property
    def aborted(self) -> bool:
        """Whether this run is to stop: it was aborted, timed out, or its worker stops or lost the lease."""
        return self._stop.is_set()

    def check_aborted(self) -> None:
        """Raise AbortSignalJobError if this run is to stop; call it in long loops of thread handlers."""
        if self._stop.is_set():
            raise AbortSignalJobError(f"job {self.job_id} was asked to stop")

    def wait_aborted(self, timeout: Seconds) -> bool:
        """Sleep in a thread handler for at most `timeout` (seconds or a timedelta); returns whether the run is to
        stop, as soon as it is."""
        return self._stop.wait(to_seconds(timeout))

    def request_stop(self) -> None:
        """Make `aborted` true; called by the worker."""
        self._stop.set()
