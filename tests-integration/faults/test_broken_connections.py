"""SQLite connections break under load: the storage replaces them, leaves no lock and loses nothing."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
from journal import now
from load import HERE, LOST_AFTER, Load
from load_client import Plan
from scaling import Scale

from jobq_core import open_storage


async def test_connections_whose_log_breaks_are_replaced(
    sqlite_url: str, load_on: Callable[..., Load], report: Callable[..., None], seed: int, scale: Scale
) -> None:
    await open_storage(sqlite_url).migrate()
    load = load_on(sqlite_url)
    jobq = shutil.which("jobq", path=str(Path(sys.executable).parent))
    assert jobq is not None
    plan = Plan(name="client", seed=seed, jobs=scale.times(300, least=150), rate=60, many=20, delayed=0.1, aborted=0.1,
                wait=True, patience=60)  # fmt: skip
    worker = (jobq, "worker", "load_jobs", "--storage", sqlite_url, "--concurrency", "4",
              "--lost-after", str(LOST_AFTER), "--heartbeat-interval", str(LOST_AFTER / 4))  # fmt: skip
    client = (HERE / "load_client.py", sqlite_url, msgspec.json.encode(plan).decode())
    processes = [load.python(HERE / "load_breaking.py", *arguments) for arguments in (worker, worker, client)]
    for process in processes:
        process.started()
    draw, longest = random.Random(seed), 0.0
    times, broken = scale.times(10, least=4), Counter[int]()
    for _ in range(times):
        await load.some_more(processes[-1], 10)
        process = draw.choice(processes)
        process.cut_off()
        os.kill(process.pid, draw.choice((signal.SIGUSR1, signal.SIGUSR2)))
        broken[process.pid] += 1
        process.line(f"at time {broken[process.pid]}$")
        longest = max(longest, await load.next_run(now()))
    processes[-1].done(120)
    await load.drained()
    outputs = "\n".join(process.output for process in processes)
    # A process that has not reopened its connection has no descriptor to break.
    assert sum(map(int, re.findall(r"broke (\d+)", outputs))) > times
    assert "the disk failed" in outputs
    verdict = await load.verdict()
    report("SQLite: connections break", tried=times, **verdict.figures | {"recovery": longest})
    assert verdict.text == ""
