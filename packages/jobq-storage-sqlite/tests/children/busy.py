"""Adds, claims and settles until no job is left; prints the jobs that it ran, as JSON.

Arguments: the file, how many jobs to add.
"""
# ruff: noqa: T201 -- it talks to the test through its output

import asyncio
import json
import sys

from jobq_core.states import Ending
from jobq_core.storage import Claim, Settlement
from jobq_core.testing import new_job, worker_info
from jobq_storage_sqlite import SqliteQueueStorage


async def main(path: str, count: int) -> None:
    ran: list[str] = []
    async with SqliteQueueStorage(path, busy_timeout=60) as storage:
        worker = worker_info(lost_after=600.0)
        await storage.register(worker)
        print("ready", flush=True)
        sys.stdin.readline()
        adding = [asyncio.create_task(storage.add([new_job() for _ in range(10)])) for _ in range(count // 10)]
        settlements: list[Settlement] = []
        while True:
            exchange = await storage.settle_and_claim(worker.id, settlements, Claim.of("default", limit=7))
            ran += [str(settlement.id) for settlement in settlements]
            assert all(exchange.settled), exchange.settled
            settlements = [Settlement(job.id, job.lease, Ending.COMPLETE, b"null") for job in exchange.claimed]
            if not settlements and all(task.done() for task in adding):
                break
        await asyncio.gather(*adding)
    print(json.dumps(ran), flush=True)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
