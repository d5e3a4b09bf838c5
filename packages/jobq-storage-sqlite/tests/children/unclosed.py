"""Leaves a storage open, with a waiter and a write under way, and comes to its end. Arguments: the file."""
# ruff: noqa: T201 -- it talks to the test through its output

import asyncio
import sys

from jobq_core.testing import new_job
from jobq_storage_sqlite import SqliteQueueStorage


async def main(path: str) -> None:
    storage = SqliteQueueStorage(path)
    await storage.open()
    subscription = storage.subscribe(["queue:default"])
    await subscription.__aenter__()
    waiting = asyncio.create_task(subscription.wait())
    adding = asyncio.create_task(storage.add([new_job(queue="other")]))
    await asyncio.sleep(0)
    waiting.cancel()
    adding.cancel()


asyncio.run(main(sys.argv[1]))
print("end", flush=True)
