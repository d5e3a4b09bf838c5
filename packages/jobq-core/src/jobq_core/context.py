"""`JobContext`: a handler's view of its own run, and its way to report progress and to add jobs."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Generator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, TypeVar, Unpack
from uuid import UUID, uuid4

from jobq_core.adding import AddOptions
from jobq_core.checks import Seconds, is_number, to_seconds
from jobq_core.children import ChildJob, Children
from jobq_core.encoding import MAX_DETAILS, MAX_MESSAGE, check_text, encode
from jobq_core.errors import AbortSignalJobError, ClosedError, InvalidJobError
from jobq_core.ids import new_id
from jobq_core.job import Job
from jobq_core.records import Progress
from jobq_core.reprs import short_repr
from jobq_core.storage import NewJob

R = TypeVar("R")

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_first_add: Final = threading.Lock()


class Nothing:
    """What is awaited where nothing is left to do."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_NOTHING: Final = Nothing()


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

    A test of a handler makes one with `JobContext()`, whose progress and completion go nowhere, and whose added
    jobs are in `added`. It has more than 12 attributes since most are the job's own.

    headers: the texts that travel with the job; see `AddOptions`. result: what the handler has returned, once it has;
        a middleware may replace it.
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
        headers: Mapping[str, str] = _NO_HEADERS,
        deadline: datetime | None = None,
        report: Callable[[Progress], None] | None = None,
        make_id: Callable[[], UUID] = new_id,
        complete: Callable[[Any, Any], Awaitable[None]] | None = None,
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
        self.headers = headers
        self.deadline = deadline
        self.result: Any = None
        self._report = report
        self._make_id = make_id
        self._complete = complete
        self._children: Children | None = None
        self._ended = False
        self._stop = threading.Event()

    def progress(self, percent: float, message: str | None = None, details: Any = None) -> None:
        """Report progress: percent from 0 to 100, a line of text, and details of any type that jobq stores.

        Returns immediately; of several reports in quick succession, the storage gets the last. Raises InvalidJobError
        for a percent out of range, for details without a JSON form, and for a message or details of more than 64 KiB.
        """
        progress = check_progress(percent, message, details)
        if self._report is not None:
            self._report(progress)

    def add(self, job: Job[R], **options: Unpack[AddOptions]) -> ChildJob[R]:
        """Add a job that exists if, and only if, this job completes. The options are those of `AddOptions`.

        Returns immediately, with the id that the job will have. The transaction that completes this job stores all that
        its run added, in order, and no other ending does: not a failure, a retry, an abort or a lost lease. Unless the
        options say otherwise, the job goes to the queue declared with its kind, else to the queue of this job, and has
        the headers and the run_id of this job. A job whose unique key is held at the completion is not added.

        `delay`, and a deadline in seconds, count from the completion. Raises InvalidJobError for arguments that cannot
        be stored and for more than 10,000 jobs or 16 MiB, ConfigurationError for an option out of range, ClosedError
        after the handler has ended, or called `complete_in`.
        """
        if self._ended:
            raise ClosedError(
                f"the handler of job {self.job_id} has ended, or has completed it: its run can add no more jobs"
            )
        if self._children is None:
            self._make_children()
            assert self._children is not None
        return self._children.add(job, options)

    def complete_in(self, connection: Any, result: Any = None) -> Awaitable[None]:
        """Complete this job, with this result, in the transaction of a connection in which the handler writes too.

        An async handler awaits it; in any other handler it has happened when it returns. The job is completed, and the
        jobs of `add` exist, once that transaction commits; what the handler returns is ignored. If the transaction
        is rolled back, or never committed, the run fails as if the handler had raised, and its writes are undone: each
        job that completes has had its effects exactly once. Commit soon: the job is locked until then.

        connection: as of `JobQueueClient.add` in an async handler, as of `SyncJobQueueClient.add` in any other.

        Raises LeaseLostError if this run has lost its lease: let it roll the transaction back. Raises InvalidJobError
        for a result that cannot be stored, ConfigurationError for a connection that cannot be used, and in a handler
        that runs in a process.
        """
        return _NOTHING if self._complete is None else self._complete(connection, result)

    def _make_children(self) -> None:
        inherited: AddOptions = {"headers": self.headers}
        if self.run_id is not None:
            inherited["run_id"] = self.run_id
        with _first_add:  # two threads of one handler may add their first jobs at the same time
            if self._children is None:
                self._children = Children(self.job_id, self.queue, inherited, self._make_id)

    @property
    def added(self) -> tuple[ChildJob[Any], ...]:
        """The jobs that this run has added, in order; they exist once this job has completed."""
        return () if self._children is None else tuple(self._children.added)

    @property
    def added_jobs(self) -> tuple[NewJob, ...]:
        """The jobs of `added` as they are stored; for the worker."""
        return () if self._children is None else tuple(self._children.jobs)

    def take_added(self) -> tuple[NewJob, ...]:
        """Return the jobs to store, and let `add` raise ClosedError from now on; called by the worker."""
        self._ended = True
        return self.added_jobs

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
