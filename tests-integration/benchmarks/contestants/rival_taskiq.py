# /// script
# requires-python = ">=3.11"
# dependencies = ["taskiq[orjson]==0.13.0", "taskiq-redis==1.2.4", "redis[hiredis]==8.1.0", "uvloop==0.23.0"]
# ///
"""taskiq on Redis, with its streams broker: it acknowledges a job after it ran, and was faster than the list broker."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import uvloop
from protocol import Adder, Contestant, Tally, main
from redis import Redis
from taskiq import AsyncBroker
from taskiq.api import run_receiver_task
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker


def _stream(url: str, queue: str) -> AsyncBroker:
    broker = RedisStreamBroker(url, queue_name=queue, consumer_group_name=queue, xread_count=500)
    return broker.with_serializer(ORJSONSerializer())


class Jobs:
    """A broker with the jobs of the benchmarks, and one that keeps results for those who ask for them."""

    def __init__(self, url: str, tally: Tally | None = None, sleep: float = 0.0) -> None:
        self.broker = _stream(url, "bench")
        results: RedisAsyncResultBackend[int] = RedisAsyncResultBackend(
            url, result_ex_time=600, serializer=ORJSONSerializer()
        )
        self.asked = _stream(url, "asked").with_result_backend(results)

        async def count() -> None:
            assert tally is not None
            tally.ran()
            if sleep:
                await asyncio.sleep(sleep)

        async def nothing(n: int, text: str = "") -> None:
            await count()

        async def answer(n: int, text: str = "") -> int:
            await count()
            return n

        async def stamp(sent: float) -> None:
            assert tally is not None
            tally.picked_up(sent)

        self.nothing = self.broker.task("nothing")(nothing)
        self.stamp = self.broker.task("stamp")(stamp)
        self.answer = self.asked.task("answer")(answer)

    async def __aenter__(self) -> Jobs:
        """Connect, and make the streams and their groups."""
        await self.broker.startup()
        await self.asked.startup()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Disconnect."""
        await self.broker.shutdown()
        await self.asked.shutdown()


class TaskiqRival(Contestant):
    """taskiq: one receiver in one event loop.

    settings: `tasks` jobs at once, `prefetch` jobs more, `parse` whether arguments are checked by their types.
    """

    name = "taskiq"
    packages = ("taskiq", "taskiq-redis", "redis", "hiredis", "uvloop")
    can = frozenset({"fill", "work", "add", "group", "submit", "ask"})
    storages = ("redis",)
    imports: ClassVar[dict[str, str]] = {"redis": "from taskiq_redis import RedisStreamBroker"}
    settings: ClassVar[dict[str, list[dict[str, Any]]]] = {
        "work": [
            {"tasks": 100, "prefetch": 0, "parse": False},
            {"tasks": 100, "prefetch": 200, "parse": False},
            {"tasks": 20, "prefetch": 20, "parse": False},
        ]
    }
    caveats: ClassVar[Sequence[str]] = (
        "A job is acknowledged after it ran; those of a killed worker come back after ten minutes at the earliest.",
        "No results are kept, except of the job that `ask` waits for, and a failed job is not tried again by default.",
        "Finished jobs stay in the stream, which is not trimmed here: its `maxlen` would cut jobs that have not run.",
        "On Redis a job is acknowledged from memory; what a crash loses is up to the server's appendfsync.",
        "Its Redis brokers have neither delays nor priorities.",
    )

    def setup(self) -> None:
        """Remove what is left in Redis."""
        with Redis.from_url(self.url) as redis:
            redis.flushdb()
        uvloop.run(self._setup())

    async def _setup(self) -> None:
        async with Jobs(self.url):
            pass

    def fill(self, jobs: int, payload: int, delay: float, higher: bool) -> None:
        """Add from 50 callers at once: there is no bulk call."""
        if delay or higher:
            raise NotImplementedError("taskiq on Redis has neither delays nor priorities")
        uvloop.run(self._fill(jobs, "x" * payload))

    async def _fill(self, jobs: int, text: str) -> None:
        numbers = iter(range(jobs))

        async def add() -> None:
            for n in numbers:
                await made.nothing.kiq(n, text)

        async with Jobs(self.url) as made:
            await asyncio.gather(*(add() for _ in range(50)))

    def work(self) -> None:
        """Serve with receivers, as the worker command does, until SIGTERM."""
        logging.basicConfig(level=logging.WARNING)
        uvloop.run(self._work())

    async def _work(self) -> None:
        made = Jobs(self.url, self.tally, self.sleep)
        options = {
            "max_async_tasks": self.options.get("tasks", 100),
            "max_prefetch": self.options.get("prefetch", 0),
            "validate_params": self.options.get("parse", True),
        }
        receivers = asyncio.gather(
            run_receiver_task(made.broker, run_startup=True, **options),
            run_receiver_task(made.asked, run_startup=True, **options),
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, receivers.cancel)
        try:
            await receivers
        except asyncio.CancelledError:
            await made.broker.shutdown()
            await made.asked.shutdown()

    def adder(self, payload: int) -> Adder:
        """Add by kicking tasks."""
        return TaskiqAdder(Jobs(self.url), "x" * payload)


class TaskiqAdder(Adder):
    """Kicks tasks."""

    def __init__(self, jobs: Jobs, text: str) -> None:
        self.jobs = jobs
        self.text = text

    async def __aenter__(self) -> Adder:
        """Connect."""
        await self.jobs.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Disconnect."""
        await self.jobs.__aexit__(*error)

    async def one(self, n: int) -> None:
        """Add one."""
        await self.jobs.nothing.kiq(n, self.text)

    async def ask(self, n: int) -> None:
        """Add one and poll for its result."""
        task = await self.jobs.answer.kiq(n, self.text)
        result = await task.wait_result(check_interval=0.005, timeout=60)
        if result.return_value != n:
            raise RuntimeError("the result of another job")

    async def many(self, count: int) -> None:
        """There is no bulk call."""
        raise NotImplementedError

    async def stamp(self) -> None:
        """Add a job that records when it was added."""
        await self.jobs.stamp.kiq(time.monotonic())


if __name__ == "__main__":
    main(TaskiqRival)
