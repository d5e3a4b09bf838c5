"""Opens the file at the line "go", as others do, and prints which migrations it applied. Arguments: the file."""
# ruff: noqa: T201 -- it talks to the test through its output

import asyncio
import json
import sys

from jobq_storage_sqlite import SqliteQueueStorage


async def main(path: str) -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    storage = SqliteQueueStorage(path)
    applied = await storage.migrate()
    async with storage:
        await storage.counts()
    print(json.dumps(applied), flush=True)


asyncio.run(main(sys.argv[1]))
