"""Jobs that a test controls, and a storage that counts its calls."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from jobq_core import JobContext, PermanentJobError, QueueStorage, job
from jobq_core.memory import MemoryQueueStorage


@pytest.fixture
async def storage() -> AsyncIterator[MemoryQueueStorage]:
    async with MemoryQueueStorage() as opened:
        yield opened


class Bench:
    """Jobs for the server under test, and what they did."""

    def __init__(self) -> None:
        self.runs: Counter[int] = Counter()
        self.running = 0
        self.most_running = 0
        self._gate = asyncio.Event()
        self._changed = asyncio.Event()

        @job(max_attempts=1)
        async def quick(n: int) -> int:
            with self._running(n):
                await asyncio.sleep(0)
            return n

        @job(max_attempts=1)
        async def held(n: int) -> int:
            with self._running(n):
                await self._gate.wait()
            return n

        @job(max_attempts=1)
        async def broken(n: int) -> int:
            with self._running(n):
                raise PermanentJobError("this one never works")

        @job(max_attempts=1)
        async def half_way(context: JobContext, n: int) -> int:
            with self._running(n):
                context.progress(50, "half way")
                await self._gate.wait()
            return n

        self.quick, self.held, self.broken, self.half_way = quick, held, broken, half_way
        self.jobs = [quick, held, broken, half_way]

    def _running(self, n: int) -> Running:
        return Running(self, n)

    def changed(self) -> None:
        """Wake all calls of `until`."""
        self._changed.set()

    def open(self) -> None:
        """Let the held jobs end, now and later."""
        self._gate.set()

    async def until(self, check: Callable[[Bench], bool]) -> None:
        """Wait until the check holds; it is made whenever a run starts or ends."""
        while not check(self):
            self._changed.clear()
            await self._changed.wait()


class Running:
    """One run, counted."""

    def __init__(self, bench: Bench, n: int) -> None:
        self.bench, self.n = bench, n

    def __enter__(self) -> None:
        bench = self.bench
        bench.runs[self.n] += 1
        bench.running += 1
        bench.most_running = max(bench.most_running, bench.running)
        bench.changed()

    def __exit__(self, *_: object) -> None:
        self.bench.running -= 1
        self.bench.changed()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    made.open()  # a failed test must not wait for its own jobs


class CountingStorage(MemoryQueueStorage):
    """Counts its operations by name; a subscription and a heartbeat count when they are made."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()


def _counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def counting(self: CountingStorage, *args: Any, **kwargs: Any) -> Any:
        self.calls[name] += 1
        return method(self, *args, **kwargs)

    return counting


for _name in QueueStorage.__abstractmethods__:
    if inspect.isfunction(_method := getattr(MemoryQueueStorage, _name)):
        setattr(CountingStorage, _name, _counted(_name, _method))


@pytest.fixture
def counting_storage_type() -> type[CountingStorage]:
    return CountingStorage


@pytest.fixture
async def counting_storage() -> AsyncIterator[CountingStorage]:
    async with CountingStorage() as opened:
        yield opened
