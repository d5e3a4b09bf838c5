"""Wait for one job and print its result or error: `python waiter.py URL JOB`. It imports only the client."""

from __future__ import annotations

import asyncio
import sys

from jobq_client import JobQueueClient
from jobq_core import JobCompleted


async def main(url: str, job_id: str) -> None:
    async with JobQueueClient(url) as client:
        client.on(JobCompleted, lambda event: print("event", event.job_id))
        print("waiting")
        result = await client.wait_for(job_id, timeout=60)
        again = await client.wait_for(job_id, timeout=60)
        assert again == result
    assert not {"jobq_worker", "jobq_server"} & set(sys.modules)
    print("result", result)


asyncio.run(main(*sys.argv[1:]))
