"""Group commit: `add` calls that come at the same time share one `storage.add`, and so one commit.

One flush is under way at a time, and what arrives meanwhile goes into the next; so a lone add never waits for company,
and the busier it is, the larger the groups. A group is sent again after an outage, which is safe because the storage
knows a job by its id.

Who adds one job after another, alone, sends them from its own task: the two turns of the event loop that a task of the
group's takes are a tenth of such an add. It leads, and what comes meanwhile forms the next group.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from jobq_client.backoff import OUTAGE, pause
from jobq_client.errors import own, unavailable
from jobq_core.errors import ClosedError, SchemaError, StorageError, StorageReadOnlyError, StorageUnavailableError
from jobq_core.retry import Backoff
from jobq_core.storage import Added, NewJob

MAX_JOBS: Final = 1000
"""Jobs in one group."""
MAX_BYTES: Final = 8 * 1024 * 1024
"""Bytes of arguments in one group."""
LEADS: Final = 16
"""Lone adds in a row that are sent from their caller's task, before the event loop gets a turn for certain: a storage
in memory gives it none."""
ENOUGH: Final = 8
"""Jobs that must fail alone, and none succeed, before the storage is blamed and not the jobs."""

Send = Callable[[Sequence[NewJob]], Awaitable[list[Added]]]


class _Entry:
    """One caller: its job, the future it waits for, when its patience ends, and whether its job was ever sent."""

    __slots__ = ("answer", "job", "sent", "until")

    def __init__(self, job: NewJob, answer: asyncio.Future[Added], until: float) -> None:
        self.job = job
        self.answer = answer
        self.until = until
        self.sent = False

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class GroupCommit:
    """Gathers concurrent adds into groups.

    patience: seconds for which an add is sent again while the storage is away. closing: set when the client stops.
    backoff: the waits between attempts. now: the clock that patience is measured by.
    """

    def __init__(
        self,
        send: Send,
        *,
        patience: float,
        closing: asyncio.Event,
        backoff: Backoff = OUTAGE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._patience = patience
        self._backoff = backoff
        self._now = now
        self._waiting: deque[_Entry] = deque()
        self._flying: list[_Entry] = []
        self._closing = closing
        self._flusher: asyncio.Task[None] | None = None
        self._alone = False
        self._leads = 0
        self._leading = False
        self._led = asyncio.Event()

    async def add(self, job: NewJob) -> Added:
        """Add a job with whatever others come now.

        Raises what the storage said of this job; StorageUnavailableError when patience ended: it says if it was sent.
        Cancelling one caller leaves the others alone; a job that was sent already may have been added.
        """
        if self._closing.is_set():
            raise ClosedError("the client is closed")
        until = self._now() + self._patience
        if self._alone:
            self._alone = False
            try:
                return await self._lead(job)
            except StorageReadOnlyError:
                raise
            except StorageUnavailableError:
                sent = True  # may have been; the group rides the outage out
        else:
            sent = False
        entry = _Entry(job, asyncio.get_running_loop().create_future(), until)
        entry.sent = sent
        self._waiting.append(entry)
        self._start_flusher()
        return await entry.answer

    async def _lead(self, job: NewJob) -> Added:
        """Send a job from its caller's task."""
        self._leading = True
        try:
            (added,) = await self._send_all([job])
        finally:
            self._leading = False
            self._led.set()
            if self._waiting:
                self._start_flusher()
        self._leads += 1
        self._alone = self._flusher is None and self._leads % LEADS != 0
        return added

    def _start_flusher(self) -> None:
        if self._flusher is None and not self._leading:
            # In a context of its own: the group is nobody's, least of all the trace's of the caller who came first.
            self._flusher = asyncio.create_task(self._flush(), context=contextvars.Context())

    async def close(self) -> None:
        """Wait until the jobs taken in are sent, after `closing` was set: once, an outage is waited for no longer."""
        while self._leading:
            self._led.clear()
            await self._led.wait()
        if self._flusher is not None:
            await asyncio.wait({self._flusher})

    async def _flush(self) -> None:
        failures = 0
        try:
            while group := self._take():
                try:
                    await self._deliver(group)
                    failures = 0
                    self._alone = len(group) == 1 and not self._waiting
                except StorageUnavailableError as error:
                    failures += 1
                    self._waiting.extendleft(entry for entry in reversed(group) if not entry.answer.done())
                    self._give_up(error)
                    if self._waiting:
                        await pause(self._closing, self._backoff.delay(failures))
        finally:
            # Reached with callers left only if the event loop is ending this task.
            for entry in (*self._flying, *self._waiting):
                entry.fail(ClosedError("closed before it was known whether the job was added"))
            self._waiting.clear()
            self._flusher = None

    def _take(self) -> list[_Entry]:
        group: list[_Entry] = []
        size = 0
        while self._waiting and len(group) < MAX_JOBS:
            entry = self._waiting[0]
            size += len(entry.job.arguments)
            if size > MAX_BYTES:
                break
            self._waiting.popleft()
            if not entry.answer.done():  # its caller was cancelled
                group.append(entry)
        self._flying = group
        return group

    async def _deliver(self, group: list[_Entry]) -> None:
        """Send a group; raises StorageUnavailableError, and gives every other error to those it concerns."""
        try:
            await self._ask(group)
        except (ClosedError, SchemaError, StorageReadOnlyError) as error:
            _fail_all(group, error)
        except StorageUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001  (it goes to the callers)
            if len(group) == 1:
                _fail_all(group, error)
            else:
                await self._single_out(group)

    async def _single_out(self, group: list[_Entry]) -> None:
        """Halve a group that failed for good until the guilty jobs are alone, so that they fail alone."""
        parts = _halves(group)
        blamed = 0
        innocent = False
        while parts:
            part = parts.pop()
            try:
                await self._ask(part)
                innocent = True
            except StorageUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001  (it goes to the callers)
                if len(part) > 1:
                    parts += _halves(part)
                    continue
                _fail_all(part, error)
                blamed += 1
                if blamed == ENOUGH and not innocent:
                    # It is the storage, a full disk say: hundreds of statements more would not help it.
                    _fail_all(group, error)
                    return

    async def _ask(self, group: list[_Entry]) -> None:
        for entry in group:
            entry.sent = True
        answers = await self._send_all([entry.job for entry in group])
        for entry, added in zip(group, answers, strict=True):
            if not entry.answer.done():
                entry.answer.set_result(added)

    async def _send_all(self, jobs: Sequence[NewJob]) -> list[Added]:
        answers = await self._send(jobs)
        if len(answers) != len(jobs):
            raise StorageError(f"the storage gave {len(answers)} answers to {len(jobs)} jobs")
        return answers

    def _give_up(self, error: StorageUnavailableError) -> None:
        now = self._now()
        kept: deque[_Entry] = deque()
        for entry in self._waiting:
            if entry.answer.done():
                continue
            if entry.until > now and not self._closing.is_set():
                kept.append(entry)
            elif entry.sent:
                entry.fail(unavailable(error, f"job {entry.job.id} may or may not have been added"))
            else:
                entry.fail(unavailable(error, f"job {entry.job.id} was not added"))
        self._waiting = kept


def _halves(group: list[_Entry]) -> list[list[_Entry]]:
    half = len(group) // 2
    return [group[half:], group[:half]]  # the first half is taken first, from the end


def _fail_all(group: list[_Entry], error: Exception) -> None:
    for entry in group:
        entry.fail(own(error) if len(group) > 1 else error)
