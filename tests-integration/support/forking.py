"""A program that forks while a queue, a client, a worker and their storage are in use, and says what the child met.

Arguments: the storage's URL. Prints one line of JSON, with the child's answers and what the parent can do afterwards.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from shop_jobs import add_up

from jobq_client import JobQueueClient
from jobq_core import open_storage
from jobq_worker import JobQueueWorker


async def in_child(call: Callable[[], Awaitable[object]]) -> str:
    """Fork, have the child run this in an event loop of its own, and return the name of what it raised, or 'ok'."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = "ok"
        try:
            asyncio.run(_bounded(call))
        except BaseException as error:  # noqa: BLE001
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said[:200].encode())
        os._exit(0)
    os.close(writer)
    said = await asyncio.to_thread(os.read, reader, 1000)
    await asyncio.to_thread(os.waitpid, child, 0)
    os.close(reader)
    return said.decode()


async def _bounded(call: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(20):
        await call()


async def main(url: str) -> None:
    """Fork again and again, and use everything in between."""
    storage = open_storage(url)
    said: dict[str, Any] = {}
    async with storage, JobQueueClient(url) as client, JobQueueWorker(storage, jobs=[add_up]) as worker:

        async def start_again() -> None:
            await client.start()
            assert (await client.add(add_up(a=1, b=1), queue="child")).created
            await client.stop()

        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "add": lambda: client.add(add_up(a=1, b=1)),
            "wait_for": lambda: client.wait_for("0192f000-0000-7000-8000-000000000000"),
            "stop client": client.stop,
            "stop worker": worker.stop,
            "close storage": storage.close,
            "start again": start_again,
        }
        for name, call in calls.items():
            assert await client.wait_for(await client.add(add_up(a=1, b=2)), timeout=20) == 3
            said[name] = await in_child(call)
        said["result"] = await client.wait_for(await client.add(add_up(a=2, b=2)), timeout=20)
        said["healthy"] = worker.health().healthy
        said["of the child"] = await client.size("child")
    print(json.dumps(said))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
