"""Opens a file, and prints what is wrong with it for a user who may not write to it. Argument: the file."""
# ruff: noqa: T201 -- it talks to the test through its output

import asyncio
import os
import sys

from jobq_storage_sqlite import SqliteQueueStorage


async def main(path: str) -> None:
    async with SqliteQueueStorage(path) as storage:
        if os.getuid() == 0:
            os.setreuid(65534, -1)
        else:
            os.chmod(path, 0o444)  # noqa: PTH101
        print(*(finding.code for finding in await storage.diagnose()))


asyncio.run(main(sys.argv[1]))
