"""Virtual time, and who goes on next.

The world has lanes: a lane is what runs one thing after the other, as an event loop or a thread does. At each step the
seed draws one of the lanes that have something to do, and lets it do one thing. Nothing sleeps: when no lane has
anything to do, time jumps to the next moment at which one has.
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
"""Seconds from 1970 to the start of each world."""


class Task(Protocol):
    """Something to do once: an `asyncio.Handle`, or a `Step`."""

    def _run(self) -> object: ...
    def cancelled(self) -> bool: ...


class Step:
    """Something to do that belongs to no event loop."""

    __slots__ = ("_args", "_call", "_off")

    def __init__(self, call: Callable[..., object], *args: Any) -> None:
        self._call = call
        self._args = args
        self._off = False

    def _run(self) -> None:
        self._call(*self._args)

    def cancel(self) -> None:
        """Do it never."""
        self._off = True

    def cancelled(self) -> bool:
        """Say whether it was cancelled."""
        return self._off


class Lane:
    """What does one thing after the other. held: it does nothing, and what comes due waits. dead: it never will."""

    __slots__ = ("dead", "held", "loop", "name", "ready")

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.name = name
        self.loop = loop
        self.ready: deque[Task] = deque()
        self.held = False
        self.dead = False


class World:
    """One schedule's time, lanes and seed. shuffle: a lane takes what is ready in any order, not as it came."""

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
        """A process that is over is thrown away just now: what it says counts for nothing."""
        self._timers: list[tuple[float, int, Lane, Task]] = []
        self._count = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def clock(self) -> float:
        """Return the storage's time: seconds since 1970."""
        return EPOCH + self.now

    def lane(self, name: str, loop: asyncio.AbstractEventLoop | None = None) -> Lane:
        """Make a lane."""
        lane = Lane(name, loop)
        self.lanes.append(lane)
        return lane

    def at(self, when: float, lane: Lane, task: Task) -> None:
        """Let a lane do something at a moment of virtual time."""
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, lane, task))

    def after(self, seconds: float, lane: Lane, call: Callable[..., object], *args: Any) -> Step:
        """Let a lane call something in so many seconds."""
        step = Step(call, *args)
        self.at(self.now + seconds, lane, step)
        return step

    def note(self, who: str, what: str, *details: Any) -> None:
        """Write a line of the trace; the details are shown only when somebody reads it."""
        self.trace.append((self.now, who, what, details))

    def step(self) -> bool:
        """Do one thing; False if nothing is left to do, ever."""
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
        # Computing takes time too: some microseconds, so that what is due comes between.
        self.now += draw() * 4e-5
        self.steps += 1
        if not task.cancelled():
            # Only where it changes, since it is slow; what belongs to no loop does not ask for the running one.
            loop = lane.loop
            if loop is not None and loop is not self._loop:
                events._set_running_loop(loop)
                self._loop = loop
            task._run()
        return True

    def run(self, until: Callable[[], bool], *, before: float, steps: int) -> bool:
        """Go on until something holds; False if it does not by that moment, or after so many steps."""
        most = self.steps + steps
        try:
            while not until():
                if self.now > before or self.steps > most or not self.step():
                    return False
            return True
        finally:
            events._set_running_loop(None)
            self._loop = None
