"""`JobQueueClient`: submit jobs, wait for them, follow, find and control them, from a process that runs none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, Unpack, overload
from uuid import UUID

from msgspec import Struct

from jobq_client.bulk import make_jobs, persist, send_all
from jobq_client.client_events import ClientEvents
from jobq_client.clock_offset import ClockOffset
from jobq_client.errors import not_found
from jobq_client.group_commit import GroupCommit
from jobq_client.handle import JobHandle
from jobq_client.results import is_over, result_of
from jobq_client.status_poller import StatusPoller, Subscriber
from jobq_client.subscribers import Caller, Follower, ProgressCallback, Waiter, Watcher
from jobq_core.adding import AddOptions, new_job
from jobq_core.checks import check_list, check_seconds, is_one_of
from jobq_core.errors import ClosedError, ConfigurationError, JobStateError, WaitTimeoutError
from jobq_core.events import EventSource, JobAdded
from jobq_core.ids import new_id, parse_id
from jobq_core.job import Job, JobFunction, check_name, definition_of
from jobq_core.records import JobRecord, Progress
from jobq_core.reprs import short_repr
from jobq_core.states import JobState
from jobq_core.storage import Added, Change, JobFilter, JobStatus, NewJob, Page, QueueStorage
from jobq_core.urls import as_storage, open_storage

R = TypeVar("R")

MAX_PAGE: Final = 1000

JobKey = JobHandle[Any] | UUID | str
"""A job: its handle, its id, or its id as text."""
Kind = str | type[Job[Any]] | JobFunction[Any, Any, Any]
"""A kind of job: its name, or what `@job` made."""


class Output(Struct, Generic[R], frozen=True):
    """A result that `find_output` found, and the job it comes from; None is a value like any other."""

    job_id: UUID
    value: R


class _Running:
    """What a client has between start and stop."""

    def __init__(self, storage: QueueStorage, source: EventSource, patience: float, poll: float) -> None:
        self.storage = storage
        self.clock_offset = ClockOffset(storage)
        self.events = ClientEvents(source)
        self.poller = StatusPoller(storage, self.events, poll=poll)
        self.closing = asyncio.Event()
        self.group_commit = GroupCommit(storage.add, patience=patience, closing=self.closing)


class JobQueueClient(EventSource):
    """A process's door to its jobs. Use it with `async with`, or `start()` and `stop()`.

    Many tasks of one event loop share one client.

    storage: a URL for `jobq_core.open_storage`, opened and closed by the client; or a QueueStorage, which is yours to
        open before and close after.
    queue: where jobs go whose kind declares no queue (default: 'default').
    patience: seconds for which `add` and `add_many` try on while the storage is away (default: 10).
    poll: seconds between looks at the jobs that are waited for, while no doorbell rings (default: 1).

    Waiting rides out an outage of the storage, as long as its own timeout. Everything else asks the storage once and
    raises StorageUnavailableError if that is away; it may be repeated. A client that is not running raises ClosedError.

    As a source of events it tells JobAdded of what it added (outside transactions of yours), and JobProgressed,
    JobCompleted, JobFailed, JobAborted and JobDisabled of the jobs it waits for, follows or watches.
    """

    def __init__(
        self, storage: QueueStorage | str, queue: str = "default", *, patience: float = 10.0, poll: float = 1.0
    ) -> None:
        super().__init__()
        self._url = storage if isinstance(storage, str) else None
        # Opened from its URL here already, so that a wrong one is refused where it is written.
        self._storage: QueueStorage | None = open_storage(storage) if isinstance(storage, str) else as_storage(storage)
        self._queue = check_name(queue, "queue")
        self._patience = check_seconds(patience, "patience")
        self._poll = check_seconds(poll, "poll", least=0.01)
        self._running: _Running | None = None
        self._moving = asyncio.Lock()

    # Life

    async def start(self) -> None:
        """Open the storage, if it was given by URL, and take its time. Starting twice changes nothing.

        Raises StorageUnavailableError or SchemaError as `QueueStorage.open` does; the client is as before then.
        """
        async with self._moving:
            if self._running is not None:
                return
            if self._storage is None:
                self._storage = open_storage(self._url)
            if self._url is not None:
                await self._storage.open()
            running = _Running(self._storage, self, self._patience, self._poll)
            try:
                await running.clock_offset.measure()
            except BaseException:
                await self._close_storage()
                raise
            self._running = running

    async def stop(self) -> None:
        """Add what was taken in, end all waits with ClosedError, close the storage if it was opened here.

        Prompt: an outage is not ridden out any more. Stopping twice changes nothing; it can be started again.
        """
        async with self._moving:
            running, self._running = self._running, None
            if running is None:
                return
            try:
                running.closing.set()
                await running.poller.close()
                await running.group_commit.close()
                await running.clock_offset.close()
                self.close_events()
            finally:
                await self._close_storage()

    async def _close_storage(self) -> None:
        if self._url is not None and self._storage is not None:
            storage, self._storage = self._storage, None
            await storage.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _open(self) -> _Running:
        if self._running is None:
            raise ClosedError("the client is not running: use it inside `async with`, or call start() first")
        return self._running

    @property
    def queue(self) -> str:
        """Where jobs go whose kind declares no queue."""
        return self._queue

    @property
    def storage(self) -> QueueStorage:
        """The storage, for what the client does not offer. Raises ClosedError if the client is not running."""
        return self._open().storage

    # Submitting

    async def add(self, job: Job[R], *, connection: Any = None, **options: Unpack[AddOptions]) -> JobHandle[R]:
        """Add a job; once this returns, it is kept for good. The options are those of `AddOptions`.

        Calls that come at the same time share one commit. With `connection`, the job is added in that connection's own
        open transaction instead: it is there when that commits, and cannot be waited for before.

        Raises InvalidJobError for arguments that cannot be kept and ConfigurationError for an option that cannot work
        (nothing is stored then). Raises StorageUnavailableError when the storage was away for `patience` seconds: it
        says whether the job was not added, or may or may not have been. With `connection` nothing is tried twice, the
        transaction being yours.
        """
        running = self._open()
        new = new_job(new_id(*await running.clock_offset.read()), job, self._queue, options)
        if connection is not None:
            return self._handle(job, new, (await running.storage.add([new], connection=connection))[0])
        added = await running.group_commit.add(new)
        self._announce([new], [added])
        return self._handle(job, new, added)

    async def add_many(
        self, jobs: Iterable[Job[R]], *, connection: Any = None, **options: Unpack[AddOptions]
    ) -> list[JobHandle[R]]:
        """Add jobs in one round trip, all or none, with the same options; they become PENDING in the order given.

        Over 10,000 jobs or 32 MiB of arguments it takes several round trips, and an error leaves those of the round
        trips before (a note on it says how many). Raises as `add` does; one job that is refused leaves none.
        """
        running = self._open()
        given = check_list(jobs, "jobs", "add_many([job, another])")
        new = await make_jobs(given, self._queue, options, await running.clock_offset.read())
        if connection is not None:
            added = await send_all(new, partial(running.storage.add, connection=connection))
        else:
            send = partial(persist, running.storage.add, patience=self._patience, closing=running.closing)
            added = await send_all(new, send)
            self._announce(new, added)
        return [self._handle(*each) for each in zip(given, new, added, strict=True)]

    def _handle(self, job: Job[R], new: NewJob, added: Added) -> JobHandle[R]:
        # Not added.created: a job whose commit's answer was lost is found there when it is sent again, and yet is new.
        return JobHandle(self, definition_of(job), id=added.id, queue=new.queue, created=added.id == new.id)

    def _announce(self, jobs: Sequence[NewJob], added: Sequence[Added]) -> None:
        if self.wants(JobAdded):
            for new, one in zip(jobs, added, strict=True):
                self.emit(JobAdded(job_id=one.id, kind=new.kind, queue=new.queue, created=one.id == new.id))

    # Waiting

    @overload
    async def wait_for(self, job: JobHandle[R], *, timeout: float | None = None) -> R: ...
    @overload
    async def wait_for(self, job: UUID | str, *, timeout: float | None = None) -> Any: ...
    async def wait_for(self, job: JobKey, *, timeout: float | None = None) -> Any:
        """Wait until a job is over, in whatever process it runs, and return its result.

        With a handle the result has the job's declared type; with an id it is plain JSON values. timeout: seconds
        (default: no limit; 0: look once).

        Raises what the job failed with, if that type belongs to jobs and is loaded here: one that `@job(errors=…)`
        declares, a subclass of JobError, or a builtin exception; else JobError with `type_name`. A note on the
        exception says where it was raised. AbortSignalJobError if the job was aborted; JobDisabledError if it is
        disabled; JobNotFoundError if there is no such job, or it was deleted meanwhile; WaitTimeoutError when the
        timeout passes; ClosedError if the client is stopped.
        """
        job_id = _id_of(job)
        poller = self._open().poller
        if timeout is not None:
            check_seconds(timeout, "timeout")
        if timeout == 0:
            status = await self._peek(job_id)
            if not is_over(status):
                raise _not_over(job_id, 0, status, poller)
        else:
            status = await self._until_over(job_id, timeout, poller)
        return result_of(status, job.definition if isinstance(job, JobHandle) else None)

    async def _until_over(self, job_id: UUID, timeout: float | None, poller: StatusPoller) -> JobStatus:
        waiter = Waiter(job_id)
        poller.subscribe(job_id, waiter)
        try:
            # asyncio.wait, not wait_for: a job that ends just as the time is up has ended.
            await asyncio.wait({waiter.future}, timeout=timeout)
        finally:
            poller.unsubscribe(job_id, waiter)
            if not waiter.future.cancel():
                waiter.future.exception()  # looked at, even if this task is cancelled just now
        if not waiter.future.cancelled():
            return waiter.future.result()
        await poller.settled()
        raise _not_over(job_id, timeout, waiter.last, poller)

    async def progress_of(self, job: JobKey) -> Progress:
        """Return how far a job is; raises JobNotFoundError if there is no such job."""
        return (await self._peek(_id_of(job))).progress

    async def _peek(self, job_id: UUID) -> JobStatus:
        (status,) = await self._open().storage.get_status([job_id])
        if status is None:
            raise not_found(job_id)
        return status

    def on_progress(self, job: JobKey, callback: ProgressCallback) -> Callable[[], None]:
        """Call back (sync or async) with a job's progress, now if there is any and at every change, until its end.

        A change of the message or the details alone counts. What changes within milliseconds comes as one, the last.
        Returns a function that ends it. An exception of the callback is logged.
        """
        if not callable(callback):
            raise ConfigurationError(
                f"on_progress calls a function with the progress, and {short_repr(callback)} is none"
            )
        return self._listen(_id_of(job), lambda job_id: Caller(job_id, callback))

    async def follow(self, job: JobKey) -> AsyncGenerator[Progress, None]:
        """Iterate over a job's progress, as `on_progress` has it, until the job is finished.

        A slow reader gets the latest. Raises JobNotFoundError if there is no such job, or it was deleted meanwhile;
        ClosedError if the client is stopped.
        """
        job_id = _id_of(job)
        poller = self._open().poller
        follower = Follower(job_id)
        poller.subscribe(job_id, follower)
        try:
            while True:
                await follower.news.wait()
                follower.news.clear()
                if follower.latest != follower.read:
                    follower.read = follower.latest
                    yield follower.latest
                if follower.error is not None:
                    raise follower.error
                if follower.over and follower.latest == follower.read:
                    return
        finally:
            poller.unsubscribe(job_id, follower)

    def watch(self, job: JobKey) -> Callable[[], None]:
        """Announce what happens to a job as events of this client, until it is finished.

        Returns a function that ends it.

        client.on(JobFailed, alert)
        client.watch(handle)
        """
        return self._listen(_id_of(job), Watcher)

    def _listen(self, job_id: UUID, make: Callable[[UUID], Subscriber]) -> Callable[[], None]:
        poller = self._open().poller
        subscriber = make(job_id)
        poller.subscribe(job_id, subscriber)
        return lambda: poller.unsubscribe(job_id, subscriber)

    # Reading

    async def get(self, job: JobKey) -> JobRecord | None:
        """Return all that is known of a job, its failed attempts included; None if there is no such job."""
        (record,) = await self._open().storage.get([_id_of(job)])
        return record

    async def find(
        self,
        *,
        state: JobState | Iterable[JobState] = (),
        queue: str | None = None,
        kind: Kind | Iterable[Kind] = (),
        tag: str | Iterable[str] = (),
        run_id: str | None = None,
        after: JobKey | None = None,
        limit: int = 100,
    ) -> Page:
        """Return a page of jobs, newest first: those that match all that is given.

        state, kind: one, or several of which any will do. tag: one, or several that the job must all have.
        queue: default is every queue. after: the cursor of the page before. limit: 1 to 1000 jobs.
        """
        if type(limit) is not int or not 1 <= limit <= MAX_PAGE:
            raise ConfigurationError(f"limit must be a whole number from 1 to {MAX_PAGE}, not {short_repr(limit)}")
        wanted = JobFilter(
            queue=None if queue is None else check_name(queue, "queue"),
            states=_states(state),
            kinds=_kinds(kind),
            tags=_tags(tag),
            run_id=None if run_id is None else check_name(run_id, "run_id"),
        )
        return await self._open().storage.find(wanted, after=None if after is None else _id_of(after), limit=limit)

    async def find_all(
        self,
        *,
        state: JobState | Iterable[JobState] = (),
        queue: str | None = None,
        kind: Kind | Iterable[Kind] = (),
        tag: str | Iterable[str] = (),
        run_id: str | None = None,
        page_size: int = 100,
    ) -> AsyncGenerator[JobRecord, None]:
        """Iterate over all jobs that match, newest first, as `find` does; page_size: how many are fetched at a time."""
        states, kinds, tags = _states(state), _kinds(kind), _tags(tag)
        after: UUID | None = None
        while True:
            page = await self.find(
                state=states, queue=queue, kind=kinds, tag=tags, run_id=run_id, after=after, limit=page_size
            )
            for record in page.jobs:
                yield record
            if page.cursor is None:
                return
            after = page.cursor

    async def size(self, queue: str | None = None, *, state: JobState = JobState.PENDING) -> int:
        """Count the jobs of a queue (default: the client's own) in one state (default: PENDING)."""
        (one,) = _states((state,))
        return (await self.counts(queue))[one]

    async def counts(self, queue: str | None = None) -> dict[JobState, int]:
        """Count the jobs of a queue (default: the client's own) by state; all eight are in the answer."""
        name = self._named(queue)
        return dict((await self._open().storage.counts(name))[name])

    async def output_for(self, job: Job[R], *, queue: str | None = None) -> R | None:
        """Return the result of the newest completed job of a queue with the same kind and arguments, or None.

        queue: default is the queue that `add(job)` would use. `find_output` tells a result that is None from no job.
        Raises ConfigurationError if the kind is not declared with `fingerprint=True`.
        """
        output = await self.find_output(job, queue=queue)
        return None if output is None else output.value

    async def find_output(self, job: Job[R], *, queue: str | None = None) -> Output[R] | None:
        """Do as `output_for`, and say which job the result comes from."""
        definition = definition_of(job)
        fingerprint = definition.fingerprint_of(definition.encode_arguments(job))
        if fingerprint is None:
            raise ConfigurationError(f"{definition.kind} keeps no fingerprints: declare it with @job(fingerprint=True)")
        name = self._named(queue if queue is not None else definition.queue)
        status = await self._open().storage.output_for(name, definition.kind, fingerprint)
        return None if status is None else Output(status.id, result_of(status, definition))

    # Control

    async def abort(self, job: JobKey) -> bool:
        """Abort a job wherever it is: at once before it runs; while it runs it is asked to stop.

        Returns whether that changed anything: False if the job is finished. Raises JobNotFoundError.
        """
        return _found(await self._open().storage.abort([_id_of(job)])).changed

    async def abort_run(self, run_id: str) -> int:
        """Abort every job that was submitted under this run id; returns how many were aborted or asked to stop."""
        changes = await self._open().storage.abort_run(check_name(run_id, "run_id"))
        return sum(change.changed for change in changes)

    async def retry(self, job: JobKey) -> bool:
        """Put a FAILED or ABORTED job back to the end of the line, all attempts anew, its history kept.

        Returns False, and changes nothing, for a job in any other state: of two calls at once one gets True. Raises
        JobNotFoundError; JobStateError if the job's unique key belongs to another job by now, which it must wait for.
        """
        running = self._open()
        change = _found(await running.storage.retry([_id_of(job)]))
        if change.changed:
            running.events.reopen(change.id)
        elif change.before in (JobState.FAILED, JobState.ABORTED):
            raise JobStateError(f"job {change.id} cannot be retried now: its unique key belongs to another job")
        return change.changed

    async def disable(self, job: JobKey) -> bool:
        """Put a job aside until it is enabled: at once before it runs; while it runs it is asked to stop.

        Returns whether that changed anything: False if the job is finished or disabled. Raises JobNotFoundError.
        """
        return _found(await self._open().storage.disable([_id_of(job)])).changed

    async def enable(self, job: JobKey) -> bool:
        """Let a disabled job run again, or take back the wish to disable a running one.

        Returns whether that changed anything: False if nobody disabled it. Raises JobNotFoundError.
        """
        return _found(await self._open().storage.enable([_id_of(job)])).changed

    async def delete(self, job: JobKey) -> bool:
        """Remove a job in any state, with its history; a running one is told to stop, and its end changes nothing.

        Returns True. Raises JobNotFoundError.
        """
        return _found(await self._open().storage.delete([_id_of(job)])).changed

    async def clear(self, queue: str | None = None) -> int:
        """Remove all jobs of a queue (default: the client's own) in any state; returns how many."""
        return await self._open().storage.clear(self._named(queue))

    def _named(self, queue: str | None) -> str:
        return self._queue if queue is None else check_name(queue, "queue")


def _id_of(job: JobKey) -> UUID:
    return job.id if isinstance(job, JobHandle) else parse_id(job)


def _found(changes: Sequence[Change]) -> Change:
    (change,) = changes
    if change.before is None:
        raise not_found(change.id)
    return change


def _not_over(job_id: UUID, timeout: float | None, last: JobStatus | None, poller: StatusPoller) -> WaitTimeoutError:
    state = "its state is not known yet" if last is None else f"it is {last.state}"
    error = WaitTimeoutError(f"job {job_id} is not over after {timeout:g} seconds: {state}")
    if poller.outage is not None:
        error.add_note(f"the storage is away: {poller.outage}")
    return error


def _states(state: JobState | Iterable[JobState]) -> frozenset[JobState]:
    # A JobState is text, and so would be taken for several one-letter states.
    states = [state] if isinstance(state, str) else check_list(state, "state", "state=[JobState.FAILED]")
    for one in states:
        if not is_one_of(one, JobState):
            raise ConfigurationError(f"{short_repr(one)} is no state; the states are {', '.join(JobState)}")
    return frozenset(map(JobState, states))


def _kinds(kind: Kind | Iterable[Kind]) -> tuple[str, ...]:
    kinds = (kind,) if isinstance(kind, (str, type, JobFunction)) else check_list(kind, "kind", "kind=[send, resize]")
    return tuple(check_name(one, "kind") if isinstance(one, str) else definition_of(one).kind for one in kinds)


def _tags(tag: str | Iterable[str]) -> tuple[str, ...]:
    tags = (tag,) if isinstance(tag, str) else check_list(tag, "tag", "tag=['monthly', 'mail']")
    return tuple(check_name(one, "a tag") for one in tags)
