"""Adds a job to the queue that each line of its input names. Arguments: the file."""
# ruff: noqa: T201 -- it talks to the test through its output

import asyncio
import sys

from jobq_core.testing import new_job
from jobq_storage_sqlite import SqliteQueueStorage


async def main(path: str) -> None:
    async with SqliteQueueStorage(path) as storage:
        print("ready", flush=True)
        while queue := (await asyncio.to_thread(sys.stdin.readline)).strip():
            await storage.add([new_job(queue=queue)])
            print("added", flush=True)


asyncio.run(main(sys.argv[1]))
