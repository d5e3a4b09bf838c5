"""A program that ends without stopping its client, while a thread waits for a job and another reads events."""

from __future__ import annotations

import sys
import threading

from jobq_client import SyncJobQueueClient
from jobq_core import JobProgressed, job


@job()
async def keep(number: int) -> int:
    raise NotImplementedError


client = SyncJobQueueClient(sys.argv[1])
client.start()
handle = client.add(keep(1))
for wait in (handle.result, lambda: next(client.events(JobProgressed))):
    threading.Thread(target=wait, daemon=True).start()
client.on_progress(handle, print)
sys.stdout.write("ok\n")
