"""Virtual time, and the choice of what runs next.

The world has lanes. A lane runs one task after the other, as an event loop or a thread does. Each step draws one of the
lanes that have a task and runs that task. Nothing sleeps: when no lane has a task, time jumps to the next timer.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from asyncio import events
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

EPOCH = 1_800_000_000.0
"""Start of each world, in seconds since 1970."""


class Task(Protocol):
    """A task of a lane: an `asyncio.Handle` or a `Step`."""

    def _run(self) -> object: ...
    def cancelled(self) -> bool: ...


class Step:
    """A call that belongs to no event loop."""

    __slots__ = ("_args", "_call", "_off")

    def __init__(self, call: Callable[..., object], *args: Any) -> None:
        self._call = call
        self._args = args
        self._off = False

    def _run(self) -> None:
        self._call(*self._args)

    def cancel(self) -> None:
        """Cancel the call."""
        self._off = True

    def cancelled(self) -> bool:
        """Return whether the call was cancelled."""
        return self._off


class Lane:
    """Runs one task after the other. held: it runs nothing, and due tasks wait. dead: it never runs again."""

    __slots__ = ("dead", "held", "loop", "name", "ready")

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.name = name
        self.loop = loop
        self.ready: deque[Task] = deque()
        self.held = False
        self.dead = False


class World:
    """One schedule's time, lanes and seed. shuffle: a lane runs its ready tasks in any order."""

    def __init__(self, seed: int, *, shuffle: bool = False) -> None:
        self.random = random.Random(seed)
        self.shuffle = shuffle
        self.now = 0.0
        self.pids = itertools.count(1)
        self.steps = 0
        self.lanes: list[Lane] = []
        self.trace: list[tuple[float, str, str, tuple[Any, ...]]] = []
        self.errors: list[str] = []
        self.burying = False
        """An ended process is being discarded: its log messages are ignored."""
        self._timers: list[tuple[float, int, Lane, Task]] = []
        self._count = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def clock(self) -> float:
        """Return the storage's time, in seconds since 1970."""
        return EPOCH + self.now

    def lane(self, name: str, loop: asyncio.AbstractEventLoop | None = None) -> Lane:
        """Add a lane."""
        lane = Lane(name, loop)
        self.lanes.append(lane)
        return lane

    def at(self, when: float, lane: Lane, task: Task) -> None:
        """Run a task in a lane at a moment of virtual time."""
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, lane, task))

    def after(self, seconds: float, lane: Lane, call: Callable[..., object], *args: Any) -> Step:
        """Call a function in a lane after some seconds of virtual time."""
        step = Step(call, *args)
        self.at(self.now + seconds, lane, step)
        return step

    def note(self, who: str, what: str, *details: Any) -> None:
        """Write a line of the trace; `details` are formatted only when the trace is read."""
        self.trace.append((self.now, who, what, details))

    def step(self) -> bool:
        """Run one task. Return False if no task is left."""
        timers = self._timers
        while True:
            while timers and timers[0][0] <= self.now:
                _, _, lane, task = heapq.heappop(timers)
                if not lane.dead and not task.cancelled():
                    lane.ready.append(task)
            able = [lane for lane in self.lanes if lane.ready and not lane.held]
            if able:
                break
            if not timers:
                return False
            self.now = timers[0][0]
        draw = self.random.random
        lane = able[int(draw() * len(able))]
        ready = lane.ready
        if self.shuffle and len(ready) > 1:
            ready.rotate(-int(draw() * len(ready)))
        task = ready.popleft()
        # Computing takes some microseconds too, so that timers fall due between two tasks.
        self.now += draw() * 4e-5
        self.steps += 1
        if not task.cancelled():
            # Set only when it changes, because it is slow; a Step does not use the running loop.
            loop = lane.loop
            if loop is not None and loop is not self._loop:
                events._set_running_loop(loop)
                self._loop = loop
            task._run()
        return True

    def run(self, until: Callable[[], bool], *, before: float, steps: int) -> bool:
        """Run until `until` holds. Return False if it does not by the moment `before`, or within `steps` steps."""
        most = self.steps + steps
        try:
            while not until():
                if self.now > before or self.steps > most or not self.step():
                    return False
            return True
        finally:
            events._set_running_loop(None)
            self._loop = None
