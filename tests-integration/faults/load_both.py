"""A whole queue in one process: `python load_both.py URL NAME JOBS LOST_AFTER` adds, runs, waits and listens.

It serves until SIGTERM, also after the end of all jobs that it added.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import load_jobs
from journal import Answered, Asked, Heard, Listening, Told, now

from jobq_core.events import JobAborted, JobCompleted, JobEvent, JobFailed
from jobq_core.states import JobState
from jobq_server import JobQueue


async def main(url: str, name: str, jobs: str, lost_after: str) -> None:
    journal, pid = load_jobs.journal(), os.getpid()
    told_to_stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_stop.set)
    timing = {"lost_after": float(lost_after), "heartbeat_interval": float(lost_after) / 4}
    async with JobQueue("default", jobs=load_jobs, storage=url, worker_count=4, **timing) as queue:

        def record_event(event: JobEvent, state: JobState) -> None:
            journal.write(Heard(listener=name, job=event.job_id, state=state, at=now()))

        queue.on(JobCompleted, lambda event: record_event(event, JobState.COMPLETED))
        queue.on(JobFailed, lambda event: record_event(event, JobState.FAILED))
        queue.on(JobAborted, lambda event: record_event(event, JobState.ABORTED))

        async def one(number: int) -> None:
            token = f"{name}-{number}"
            journal.write(Asked(token=token, at=now(), pid=pid))
            handle = await queue.add(load_jobs.sleeping(token=token, seconds=0.01 * (number % 4)))
            journal.write(Answered(token=token, answer="acknowledged", at=now(), job=handle.id))
            journal.write(Listening(listener=name, job=handle.id, pid=pid, at=now()))
            result = await queue.wait_for(handle, timeout=90)
            journal.write(Told(token=token, job=handle.id, result=result, at=now()))

        print("started", flush=True)
        await asyncio.gather(*(one(number) for number in range(int(jobs))))
        print("done", flush=True)
        await told_to_stop.wait()


asyncio.run(main(*sys.argv[1:]))
