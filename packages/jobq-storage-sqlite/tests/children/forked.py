"""Uses, closes and reopens, in a forked child, a storage that the parent opened; prints what each step returns.

Arguments: the file.
"""
# ruff: noqa: T201 -- it talks to the test through its output

import asyncio
import os
import sys

from jobq_core.errors import StorageError
from jobq_core.testing import new_job
from jobq_storage_sqlite import SqliteQueueStorage


async def main(path: str) -> None:
    async with SqliteQueueStorage(path) as storage:
        await storage.add([new_job()])
        child = os.fork()
        if child == 0:
            try:
                await storage.add([new_job()])
            except StorageError as error:
                os.write(1, f"child: {error}\n".encode())
            await storage.close()
            asyncio.run(use_own(path))  # the parent's loop does not run in the child
            os._exit(0)
        await asyncio.to_thread(os.waitpid, child, 0)
        await storage.add([new_job()])
        print("parent:", sum((await storage.counts())["default"].values()), flush=True)


async def use_own(path: str) -> None:
    async with SqliteQueueStorage(path) as own:
        await own.add([new_job()])


asyncio.run(main(sys.argv[1]))
