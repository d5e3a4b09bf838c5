"""Many jobs run while processes are killed repeatedly: each job ends once, and no job is lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

from shop_jobs import count
from watching import Log

from jobq_client import JobQueueClient
from jobq_core import JobCompleted, JobState

JOBS = 600
KILLS = 6


async def test_jobs_survive_repeated_kills_of_workers_and_servers(
    migrated_url: str, children: Any, tmp_path: Path
) -> None:
    dice = random.Random(7)
    log = Log(tmp_path / "log")

    def start(command: str) -> Any:
        slots = {"worker": "--concurrency", "server": "--workers"}[command]
        options = ("--storage", migrated_url, slots, "3", "--lost-after", "2", "--heartbeat-interval", "0.5")
        child = children.jobq(command, "shop_jobs", *options)
        child.wait_for_line("started")
        return child

    ends: Counter[object] = Counter()
    async with JobQueueClient(migrated_url) as client:
        client.on(JobCompleted, lambda event: ends.update([event.job_id]))
        running = {command: start(command) for command in ("worker", "server")}
        handles = []
        waits = []
        for kill in range(KILLS):
            # When a process dies, some jobs run, some wait, and some are not added yet.
            numbers = range(kill * JOBS // KILLS, (kill + 1) * JOBS // KILLS)
            added = await client.add_many([count(log=str(log), n=n) for n in numbers], max_attempts=20)
            waits += [asyncio.create_task(client.wait_for(handle, timeout=90)) for handle in added]
            handles += added
            await log.until(lambda lines, kill=kill: len(set(lines)) > (kill + 0.3) * JOBS / KILLS)
            command = dice.choice(sorted(running))
            running[command].kill()
            running[command] = await asyncio.to_thread(start, command)
        assert await asyncio.gather(*waits) == list(range(JOBS))
        assert (await client.counts())[JobState.COMPLETED] == JOBS
        records = [record async for job in client.find_all() if (record := await client.get(job.id)) is not None]
    assert ends == Counter(handle.id for handle in handles)
    runs = Counter(map(int, log.lines))
    assert sorted(runs) == list(range(JOBS))
    for record in records:
        assert record.attempt == len(record.attempts) + 1
        assert all("WorkerLostError" in attempt.error.type for attempt in record.attempts)
        # A job that was claimed but not started when its worker died counts an attempt too.
        assert 1 <= runs[record.result] <= record.attempt
