"""Adds jobs as fast as it can, and prints each id once it is acknowledged. Arguments: the file."""
# ruff: noqa: T201 -- it talks to the test through its output

import asyncio
import sys

from jobq_core.testing import new_job
from jobq_storage_sqlite import SqliteQueueStorage


async def main(path: str) -> None:
    async with SqliteQueueStorage(path) as storage:

        async def add() -> None:
            while True:
                [added] = await storage.add([new_job(arguments=b'"' + b"x" * 2000 + b'"')])
                print(added.id, flush=True)

        await asyncio.gather(*(add() for _ in range(20)))


asyncio.run(main(sys.argv[1]))
