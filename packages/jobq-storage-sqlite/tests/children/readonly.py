"""Opens a file as a user who may only read it, and prints the error. Arguments: the file, another to warm up on."""
# ruff: noqa: T201 -- it talks to the test through its output

import asyncio
import os
import sys

from jobq_core.errors import StorageError
from jobq_storage_sqlite import SqliteQueueStorage


async def main(path: str, other: str) -> None:
    # Import everything first: the other user may not be able to read this Python.
    async with SqliteQueueStorage(other):
        pass
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    try:
        await SqliteQueueStorage(path).open()
    except StorageError as error:
        print(type(error).__name__, error)


asyncio.run(main(sys.argv[1], sys.argv[2]))
