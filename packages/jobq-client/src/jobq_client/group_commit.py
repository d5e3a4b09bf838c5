"""Group commit: concurrent calls of `add` share one `storage.add`, and so one commit.

One group is sent at a time, and jobs that arrive meanwhile form the next one. A lone add therefore never waits for
company, and groups grow with the load. After an outage a group is sent again, which is safe because the storage
recognises each job by its id. Jobs with unique keys have groups of their own, as an open transaction of another session
may hold a key.

After a group of one job, the next add is sent from its caller's task: without the two turns of the event loop that the
group's task takes, a lone add to memory is 1.6 times as fast.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from jobq_client.backoff import OUTAGE, pause
from jobq_client.deadlines import Deadlines
from jobq_client.errors import own, unavailable
from jobq_core.errors import (
    ClosedError,
    SchemaError,
    StorageError,
    StorageReadOnlyError,
    StorageUnavailableError,
    UniqueKeyBusyError,
)
from jobq_core.retry import Backoff
from jobq_core.storage import Added, NewJob

MAX_JOBS: Final = 1000
"""Maximum number of jobs in a group."""
MAX_BYTES: Final = 8 * 1024 * 1024
"""Maximum size of a group's arguments, in bytes."""
SLOW_SECONDS: Final = 5.0
"""Duration of a failed round trip after which the next one takes half as much."""
MAX_DIRECT: Final = 16
"""Adds sent from their callers' tasks before one goes through the group's task. Memory storage never yields to other
tasks, so this one does."""
LEAST_SECONDS: Final = 1.0
"""Minimum time that the storage has to answer an add, however short `patience` is."""
MAX_LONE_FAILURES: Final = 8
"""Number of jobs that fail alone, with none added, after which the storage is blamed instead of the jobs."""

logger = logging.getLogger("jobq.client")

Send = Callable[[Sequence[NewJob]], Awaitable[list[Added]]]


class _Entry:
    """One call of `add`: its job, the future of its answer, when it gives up, and whether its job was ever sent."""

    __slots__ = ("answer", "job", "sent", "until")

    def __init__(self, job: NewJob, answer: asyncio.Future[Added], until: float, sent: bool) -> None:
        self.job = job
        self.answer = answer
        self.until = until
        self.sent = sent

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class GroupCommit:
    """Gathers concurrent adds into groups.

    patience: seconds for which an add is retried during an outage of the storage. closing: set when the client stops.
    backoff: the delays between retries. now: the clock that `patience` is measured by.
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
        self._sending: list[_Entry] = []
        self._max_bytes = MAX_BYTES
        self._closing = closing
        # Kept, since asking for the running loop at each add takes a tenth of the time that one costs in a group.
        self._loop = asyncio.get_running_loop()
        self._flusher: asyncio.Task[None] | None = None
        self._deadlines = Deadlines(max(patience, LEAST_SECONDS), self._end_overdue)
        self._sending_directly: dict[asyncio.Task[object], float] = {}
        self._direct = 0
        """How many of the next adds, if they come alone, are sent from their callers' tasks."""

    async def add(self, job: NewJob, *, spent: float = 0.0) -> Added:
        """Add a job in the next group. spent: seconds that an earlier try to send it took (default: 0, never sent).

        Raises the storage's error for this job, or StorageUnavailableError after `patience` seconds, which says
        whether the job was sent. Cancelling one caller does not affect the others; its job may still be added if it
        was sent already.
        """
        if self._closing.is_set():
            raise ClosedError("the client is closed")
        until = self._now() + self._patience - spent
        self._deadlines.watch()
        direct, self._direct = self._direct, 0
        sent = direct > 0 or spent > 0
        if direct > 0:
            task = asyncio.current_task()
            assert task is not None
            self._sending_directly[task] = until
            try:
                (added,) = await self._send_all([job])
            except asyncio.CancelledError:
                if self._sending_directly[task] != math.inf or task.uncancel():
                    raise
                raise self._too_late(job) from None
            except StorageReadOnlyError:
                raise
            except StorageUnavailableError as error:
                if self._closing.is_set():
                    raise unavailable(error, _fate(job, sent=True)) from error
            else:
                self._direct = direct - 1 if self._flusher is None else 0
                return added
            finally:
                del self._sending_directly[task]
        entry = _Entry(job, self._loop.create_future(), until, sent=sent)
        self._waiting.append(entry)
        if self._flusher is None:
            # An empty context: the group belongs to no caller, and must not show up in the first one's trace.
            self._flusher = self._loop.create_task(
                self._flush(), name="jobq group commit", context=contextvars.Context()
            )
            self._flusher.add_done_callback(_log_failure)
        return await entry.answer

    async def close(self) -> None:
        """Wait until all accepted jobs are sent. Call it after `closing` was set, which ends waiting for an outage."""
        if self._flusher is not None:
            await asyncio.wait({self._flusher})
        self._deadlines.close()

    def _end_overdue(self) -> bool:
        """End the calls that the storage has not answered for `patience` seconds. Returns whether others are left."""
        overdue = self._now() - max(0.0, LEAST_SECONDS - self._patience)
        left = False
        for task, until in self._sending_directly.items():
            if until <= overdue:
                self._sending_directly[task] = math.inf
                task.cancel()
            left |= overdue < until < math.inf
        for entry in (*self._sending, *self._waiting):
            if entry.until <= overdue:
                entry.fail(self._too_late(entry.job, sent=entry.sent))
            left |= not entry.answer.done()
        return left

    def _too_late(self, job: NewJob, *, sent: bool = True) -> StorageUnavailableError:
        return StorageUnavailableError(
            f"{_fate(job, sent=sent)}: the storage did not answer within {max(self._patience, LEAST_SECONDS):g} s"
        )

    async def _flush(self) -> None:
        failures = 0
        try:
            while group := self._take():
                began = self._now()
                try:
                    await self._deliver(group)
                    failures = 0
                    self._max_bytes = min(MAX_BYTES, 2 * self._max_bytes)
                    self._direct = MAX_DIRECT if len(group) == 1 and not self._waiting else 0
                except StorageUnavailableError as error:
                    failures += 1
                    if self._now() - began >= SLOW_SECONDS:
                        # It was perhaps too much for the time limit of the storage. From 0 it could not grow again.
                        self._max_bytes = max(1, self._max_bytes // 2)
                    self._waiting.extendleft(entry for entry in reversed(group) if not entry.answer.done())
                    self._give_up(error)
                    if self._waiting:
                        await pause(self._closing, self._backoff.delay(failures))
        finally:
            # Callers are left only if the event loop cancels this task.
            for entry in (*self._sending, *self._waiting):
                entry.fail(ClosedError("closed before it was known whether the job was added"))
            self._waiting.clear()
            self._flusher = None

    def _take(self) -> list[_Entry]:
        group: list[_Entry] = []
        size = 0
        while self._waiting and len(group) < MAX_JOBS:
            entry = self._waiting[0]
            size += len(entry.job.arguments) + (0 if entry.job.meta is None else len(entry.job.meta))
            if group and size > self._max_bytes:
                break
            self._waiting.popleft()
            if not entry.answer.done():  # its caller was cancelled
                group.append(entry)
        self._sending = group
        return group

    async def _deliver(self, group: list[_Entry]) -> None:
        """Send a group. Raises StorageUnavailableError, and passes any other error to the callers it concerns."""
        try:
            await self._ask(group)
        except (ClosedError, SchemaError, StorageReadOnlyError) as error:
            _fail_all(group, error)
        except StorageUnavailableError:
            raise
        except UniqueKeyBusyError as error:
            if rest := _fail_busy(group, error):
                await self._deliver(rest)
        except Exception as error:  # noqa: BLE001  (it goes to the callers)
            if len(group) == 1:
                _fail_all(group, error)
            else:
                await self._bisect(group)

    async def _bisect(self, group: list[_Entry]) -> None:
        """Halve a refused group until each refused job is alone, so that it fails alone."""
        parts = _halves(group)
        failed = 0
        added = False
        while parts:
            part = parts.pop()
            try:
                await self._ask(part)
                added = True
            except StorageUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001  (it goes to the callers)
                if len(part) > 1:
                    parts += _halves(part)
                    continue
                _fail_all(part, error)
                failed += 1
                if failed == MAX_LONE_FAILURES and not added:
                    # The storage refuses all jobs, for example because the disk is full.
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
            else:
                entry.fail(unavailable(error, _fate(entry.job, sent=entry.sent)))
        self._waiting = kept


def _fate(job: NewJob, *, sent: bool) -> str:
    return f"job {job.id} {'may or may not have been added' if sent else 'was not added'}"


def _log_failure(flusher: asyncio.Task[None]) -> None:
    if not flusher.cancelled() and (error := flusher.exception()) is not None:
        logger.error("the task that adds jobs failed; the next add starts another", exc_info=error)


def _halves(group: list[_Entry]) -> list[list[_Entry]]:
    half = len(group) // 2
    return [group[half:], group[:half]]  # the first half is popped first


def _fail_busy(group: list[_Entry], error: UniqueKeyBusyError) -> list[_Entry]:
    """Fail the jobs whose key is held elsewhere, and return the others. Fails all if the error names no key."""
    busy = [entry for entry in group if (entry.job.queue, entry.job.unique_key) == (error.queue, error.key)] or group
    _fail_all(busy, error)
    return [entry for entry in group if entry not in busy]


def _fail_all(group: list[_Entry], error: Exception) -> None:
    for entry in group:
        entry.fail(own(error) if len(group) > 1 else error)
