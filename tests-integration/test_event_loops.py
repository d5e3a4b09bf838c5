"""A client belongs to the event loop that started it, and refuses every other one before it sends anything."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from shop_jobs import add_up

from jobq_client import JobHandle, JobQueueClient
from jobq_core import ConfigurationError, JobState, open_storage
from jobq_server import JobQueue

ALL = ["memory", "sqlite", "postgres"]


@pytest.fixture(params=ALL)
def any_url(request: pytest.FixtureRequest) -> str:
    """The URL of a storage with its tables."""
    if request.param == "memory":
        return f"memory://{request.node.name}"
    url = str(request.getfixturevalue(f"{request.param}_url"))
    asyncio.run(open_storage(url).migrate())
    return url


async def in_another_loop(call: Callable[[], Coroutine[Any, Any, object]]) -> BaseException | None:
    """Run a coroutine in the event loop of a thread of its own, and return its exception."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(call())
        except BaseException as error:  # noqa: BLE001  (it is the answer)
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    await asyncio.to_thread(thread.join)
    return raised[0] if raised else None


def test_another_event_loop_is_refused_before_anything_is_sent_and_disturbs_no_one(any_url: str) -> None:
    async def main() -> None:
        async with (
            JobQueue("default", jobs=[add_up], storage=any_url) as queue,
            JobQueueClient(queue.storage) as client,
        ):
            scheduled = await client.add(add_up(a=0, b=0), delay=3600)
            calls: list[Callable[[], Coroutine[Any, Any, object]]] = [
                lambda: client.add(add_up(a=1, b=1)),
                lambda: client.add_many([add_up(a=1, b=1)]),
                lambda: client.wait_for(scheduled, timeout=5),
                scheduled.abort,
                client.counts,
                client.stop,
            ]

            async def use(n: int) -> None:
                handles: list[JobHandle[int]] = [await client.add(add_up(a=n, b=k)) for k in range(5)]
                waits: list[Awaitable[int]] = [client.wait_for(handle, timeout=30) for handle in handles]
                assert await asyncio.gather(*waits) == [n + k for k in range(5)]

            users = [asyncio.create_task(use(n)) for n in range(10)]
            for call in calls:
                error = await in_another_loop(call)
                assert isinstance(error, ConfigurationError), error
                assert "on another event loop" in str(error)
            await asyncio.gather(*users)
            counts = await client.counts()
            assert (counts[JobState.COMPLETED], counts[JobState.SCHEDULED], sum(counts.values())) == (50, 1, 51)

    asyncio.run(main())


def test_a_stopped_client_can_be_started_in_another_event_loop(any_url: str) -> None:
    client = JobQueueClient(any_url)

    async def use() -> int:
        async with client:
            await asyncio.gather(*(client.add(add_up(a=n, b=n)) for n in range(10)))
            with pytest.raises(TimeoutError):
                await client.wait_for(await client.add(add_up(a=1, b=1)), timeout=0.01)
            return await client.size()

    async def main() -> None:
        async with open_storage(any_url):  # keeps what is in memory
            sizes: list[int] = []

            async def take() -> None:
                sizes.append(await use())

            for _ in range(2):
                assert await in_another_loop(take) is None
            assert sizes == [11, 22]

    asyncio.run(main())
