"""When `add` has returned, its notification is on its way, whatever the caller's event loop does next."""

from __future__ import annotations

import asyncio
import queue
import threading

import pytest
from shop_jobs import add_up

from jobq_client import JobQueueClient
from jobq_core import open_storage
from jobq_core.storage import queue_topic

ADDS = 20
WITHIN_SECONDS = 10.0


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"])
def test_others_are_notified_of_each_add_while_its_callers_event_loop_is_blocked(
    request: pytest.FixtureRequest, kind: str
) -> None:
    url = f"memory://{request.node.name}" if kind == "memory" else str(request.getfixturevalue(f"{kind}_url"))
    heard: queue.Queue[int] = queue.Queue()
    ready, over = threading.Event(), threading.Event()

    async def listen() -> None:
        async with open_storage(url) as storage, storage.subscribe([queue_topic("default")]) as subscription:
            ready.set()
            while not over.is_set():
                if await subscription.wait(0.1):
                    heard.put((await storage.counts("default"))["default"]["pending"])  # type: ignore[index]

    async def add() -> None:
        async with JobQueueClient(url) as client:
            for number in range(1, ADDS + 1):
                await client.add(add_up(a=1, b=number))
                # Blocks the event loop until the others have seen this job.
                while heard.get(timeout=WITHIN_SECONDS) < number:
                    pass

    async def run() -> None:
        storage = open_storage(url)
        await storage.migrate()
        async with storage:  # keeps what is in memory
            listener = threading.Thread(target=lambda: asyncio.run(listen()))
            listener.start()
            try:
                assert await asyncio.to_thread(ready.wait, WITHIN_SECONDS)
                await add()
            finally:
                over.set()
                await asyncio.to_thread(listener.join)

    asyncio.run(run())
