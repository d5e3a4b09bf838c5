"""The starts that a worker's limiter granted: reserved before a claim, and taken by the runs that start.

A limiter may be of the user's own. So each call runs in a task of its own and for a bounded time, and whatever it
raises is logged and shown in health; nothing that the limiter does holds up a settlement or ends a part of the worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from jobq_core.limiters import Grant, Limiter
from jobq_core.storage import QueueStorage
from jobq_worker.outages import Outages

T = TypeVar("T")

CALL_SECONDS: Final = 5.0
"""Maximum time of one call of a limiter."""
QUICK_SECONDS: Final = 0.02
"""Time that an exchange waits for the limiter's answer. A later answer counts for the next exchange."""
CLOSE_SECONDS: Final = 1.0
"""Time that the calls under way may take when the worker stops."""

_NEVER: Final = float("inf")
_AT_ONCE: Final = float("-inf")


class Grants:
    """Asks the limiter for starts, and tells it what became of them.

    held: the starts that were granted and that no run has taken.
    """

    def __init__(
        self,
        limiter: Limiter,
        storage: QueueStorage,
        outages: Outages,
        poll_interval: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._limiter = limiter
        self._storage = storage
        self._outages = outages
        self._poll_interval = poll_interval
        self._opened: UUID | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Future[None] | None = None
        self._closed_until = _AT_ONCE
        self._retry_at = _AT_ONCE
        self._listeners: list[Callable[[], None]] = []
        self.held = 0

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the limiter may grant more than before."""
        self._listeners.append(listener)

    @property
    def opens_at(self) -> float:
        """When to ask the limiter again, by the event loop's clock; in the past while starts are held."""
        if self.held:
            return _AT_ONCE
        return _NEVER if self._asking is not None else max(self._closed_until, self._retry_at)

    @property
    def opens_in(self) -> float | None:
        """Seconds until the limiter may grant more; None if it holds nothing back. May be read from any thread."""
        seconds = self.opens_at - self._loop.time()
        return seconds if 0.0 < seconds < _NEVER else None

    # Before a claim

    async def ask(self, wanted: int, worker: UUID) -> int:
        """Reserve starts until `wanted` are held, and return how many are held. worker: the present registration.

        Waits QUICK_SECONDS at most; an answer that comes later is reported by `on_change`.
        """
        self.give_back(self.held - wanted)
        missing = wanted - self.held
        if missing > 0 and self._asking is None and self.opens_at <= self._loop.time():
            self._asking = self._call("acquire", self._acquire(missing, worker), partial(self._granted, missing))
            await asyncio.wait([self._asking], timeout=QUICK_SECONDS)
        return self.held

    async def _acquire(self, n: int, worker: UUID) -> Grant:
        if worker != self._opened:
            await self._limiter.open(self._storage, worker)
            self._opened = worker
        return await self._limiter.acquire(n)

    def _granted(self, wanted: int, grant: Grant | None) -> None:
        self._asking = None
        if grant is None:
            return
        self.held += min(grant.count, wanted)
        if grant.count < wanted:
            # Without a time, a run must end first. It may be a run of another worker that shares the limiter: poll.
            pause = self._poll_interval if grant.retry_in is None else grant.retry_in
            self._closed_until = self._loop.time() + pause
        if grant.count:
            self._changed()

    # What became of the starts

    def take(self) -> bool:
        """Take one of the starts that are held; returns False if there is none."""
        if not self.held:
            return False
        self.held -= 1
        return True

    def give_back(self, count: int | None = None) -> None:
        """Return `count` of the starts that are held to the limiter (default: all)."""
        count = self.held if count is None else count
        if count > 0:
            self.held -= count
            self._call("release", self._limiter.release(count), self._freed)

    def cancel(self) -> None:
        """Return a start to the limiter that was taken and does not happen."""
        self._call("release", self._limiter.release(1), self._freed)

    def start(self, ended: Callable[[bool], None]) -> None:
        """Tell the limiter that a start happens. ended: called with whether the limiter took it."""
        self._call("started", self._started(), lambda answer: ended(answer is not None))

    async def _started(self) -> bool:
        await self._limiter.started(1)
        return True

    def finish(self) -> None:
        """Tell the limiter that a run has ended."""
        self._call("finished", self._limiter.finished(1), self._freed)

    def reopen(self) -> None:
        """Ask the limiter again at the next claim, since a run has started or ended."""
        self._closed_until = _AT_ONCE

    def _freed(self, _: None) -> None:
        self.reopen()
        self._changed()

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()

    # The calls

    def _call(
        self, method: str, coroutine: Coroutine[Any, Any, T], ended: Callable[[T | None], None]
    ) -> asyncio.Future[None]:
        """Make a call of the limiter. ended: called once, with the answer, or with None after an error or CALL_SECONDS.

        The returned future is done then too.
        """
        over: asyncio.Future[None] = self._loop.create_future()

        def end(answer: T | None, error: BaseException | None) -> None:
            if over.done():
                return
            over.set_result(None)
            timer.cancel()
            self._record(method, error)
            ended(answer)

        def expire() -> None:
            task.cancel()
            end(None, TimeoutError(f"the limiter {self._limiter.name!r} did not answer within {CALL_SECONDS:g} s"))

        async def run() -> None:
            try:
                answer = await coroutine
            except GeneratorExit:
                raise  # the interpreter discards the task of a closed loop
            except BaseException as error:  # noqa: BLE001  (whatever a limiter raises is recorded, and ends nothing)
                end(None, error)
            else:
                end(answer, None)

        task = self._loop.create_task(run(), name=f"limiter {method}")
        timer = self._loop.call_later(CALL_SECONDS, expire)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return over

    def _record(self, method: str, error: BaseException | None) -> None:
        part = f"limiter {self._limiter.name!r}: {method}"
        if error is None:
            self._outages.record_success(part)
            return
        seconds = self._outages.record_failure(part, error)
        if method in ("acquire", "started"):
            self._retry_at = self._loop.time() + seconds

    async def close(self) -> None:
        """Return what is held, let the calls under way end, and close the limiter: within 2 * CLOSE_SECONDS."""
        self.give_back()
        await self._wait_calls()
        if self._opened is not None:
            self._call("close", self._limiter.close(), lambda _: None)
            await self._wait_calls()

    async def _wait_calls(self) -> None:
        """Let the calls under way end, and those that follow from them; cancel what takes longer than CLOSE_SECONDS."""
        ends = self._loop.time() + CLOSE_SECONDS
        while self._calls and (left := ends - self._loop.time()) > 0:
            await asyncio.wait(self._calls, timeout=left)
        for task in self._calls:
            task.cancel()
