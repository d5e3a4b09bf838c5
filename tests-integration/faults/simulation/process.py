"""A simulated process: its own event loop and its heartbeat thread."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
import weakref
from asyncio import events
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any

import attrs

from .world import World

if TYPE_CHECKING:
    from .programs import Stage


@attrs.frozen
class Limits:
    """Limits of a process. concurrency: most runs at once; rate: (most starts, within seconds), None: no limit."""

    concurrency: int = 1_000_000
    rate: tuple[int, float] | None = None


class ProcessLoop(asyncio.AbstractEventLoop):
    """An event loop driven by the world. Callbacks run in the order in which they were scheduled, as in asyncio,
    unless the world shuffles them."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.world = process.world
        self.lane = process.world.lane(process.name, self)
        self._closed = False
        self.tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()

    def time(self) -> float:
        return self.world.now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self._closed:
            self.lane.ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.world.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self._closed:
            self.world.at(when, self.lane, handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: object = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=None if name is None else str(name), context=context)
        self.tasks.add(task)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._closed

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._closed:
            self.world.errors.append(f"{self.process.name}: {context.get('message')}: {context.get('exception')!r}")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: the world skips cancelled timers."""


class Process:
    """A simulated process. skew: error of its wall clock, in seconds."""

    def __init__(self, world: World, name: str, stage: Stage, *, skew: float = 0.0) -> None:
        self.world = world
        self.stage = stage
        self.name = name
        self.skew = skew
        self.thread = world.lane(f"{name}.heartbeat")
        self.loop = ProcessLoop(self)
        self.dead = False
        self.pid = next(world.pids)
        self.killed: float | None = None
        self.interrupted: float | None = None
        """Time of the first pause or kill: from then on it may lose leases without being able to stop its runs."""
        self.held_since: float | None = None
        self.resumed = float("-inf")
        self.limits = Limits()

    def start(self, main: Coroutine[Any, Any, None], ended: Callable[[], None]) -> None:
        """Run a coroutine as the process's main program. ended: called when the coroutine has ended."""
        task = self.loop.create_task(main, name=self.name)

        def over(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None and not self.dead:
                self.world.errors.append(f"{self.name} ended with {error!r}")
            ended()

        task.add_done_callback(over)

    def hold(self, *, thread: bool = True) -> None:
        """Pause the process, as SIGSTOP does. thread: False blocks the event loop only."""
        if self.dead or self.held_since is not None:
            return
        self.world.note(self.name, "paused" if thread else "blocked")
        self.held_since = self.world.now
        self._interrupt()
        self.loop.lane.held = True
        self.thread.held = thread

    def resume(self) -> None:
        """Resume the process."""
        if self.dead or self.held_since is None:
            return
        self.world.note(self.name, "resumed")
        self.held_since = None
        self.resumed = self.world.now
        self.loop.lane.held = self.thread.held = False

    def _interrupt(self) -> None:
        if self.interrupted is None:
            self.interrupted = self.world.now

    def kill(self) -> None:
        """End the process, as SIGKILL does: none of its code runs again, nothing is cleaned up."""
        if self.dead:
            return
        self.world.note(self.name, "killed")
        self.killed = self.world.now
        self._interrupt()
        self.bury()

    def bury(self) -> None:
        """Discard the coroutines of an ended process. Their clean-up has no effect on the world."""
        self.dead = True
        for lane in (self.loop.lane, self.thread):
            lane.dead = True
            lane.ready.clear()
            self.world.lanes.remove(lane)
        self.loop.close()
        running = events._get_running_loop()
        events._set_running_loop(self.loop)
        self.world.burying = True
        try:
            # A coroutine may start another task while it is closed; the next round discards that task.
            while tasks := [task for task in self.loop.tasks if not task.done() and task._log_destroy_pending]:  # type: ignore[attr-defined]
                for task in tasks:
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    _close(task)
        finally:
            self.world.burying = False
            events._set_running_loop(running)


def _close(task: asyncio.Task[Any]) -> None:
    coroutine = task.get_coro()
    assert coroutine is not None
    for _ in range(100):  # each await in a `finally` raises RuntimeError once
        with contextlib.suppress(RuntimeError), warnings.catch_warnings():
            # It may hold a coroutine that it had no time to start.
            warnings.simplefilter("ignore", RuntimeWarning)
            coroutine.close()
            return
