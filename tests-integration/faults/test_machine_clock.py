"""The clock of a machine is set while its processes share one file of SQLite.

There is only one clock, so all processes see the change at once. Delayed jobs use this clock. Leases use the time since
boot, also in a separate time namespace.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from load import LONG_LEASE, Load, Process, pause
from load_jobs import quick
from scaling import Scale
from wrongtime import Machine

from jobq_core import open_storage
from jobq_core.states import JobState
from jobq_core.storage import JobFilter, QueueOptions, Retention

QUEUES = ("default", "held")
SLACK = 60.0
"""Allowed delay of a rescue in seconds on a busy machine; the clocks here are wrong by thousands of seconds."""


@pytest.fixture
def machine(children: Any, tmp_path: Path, sqlite_url: str) -> Machine:
    """The machine of all processes of a test, except the test process."""
    return Machine(children, tmp_path, sqlite_url, "+0", "only")


async def prepare(url: str) -> None:
    """Make the tables, and keep finished jobs of any age."""
    async with open_storage(url) as storage:
        for_ever = Retention(completed=None, failed=None, aborted=None)
        for queue in QUEUES:
            await storage.set_queue(queue, QueueOptions(retention=for_ever))


def started(*workers: Process) -> list[Process]:
    """Wait until all workers have started."""
    return [worker.started() for worker in workers]


def runs_of(load: Load, *tokens: str) -> list[int]:
    counts = Counter(run.token for run in load.history().runs)
    return [counts[token] for token in tokens]


async def left_for_a_month(load: Load) -> int:
    """Wait until only the jobs that are due in a month remain; return their number."""
    async with asyncio.timeout(60), open_storage(load.url) as storage:
        while True:
            await load.drained(but={JobState.SCHEDULED})
            jobs = (await storage.find(JobFilter(states=frozenset({JobState.SCHEDULED})), limit=1000)).jobs
            now = await storage.now()
            if all(job.run_at is not None and job.run_at - now > timedelta(days=29) for job in jobs):
                return len(jobs)
            await asyncio.sleep(0.05)


async def test_a_clock_set_under_all_processes_of_a_file_loses_no_lease_and_keeps_delayed_jobs(
    sqlite_url: str, machine: Machine, report: Callable[..., None], seed: int, scale: Scale, tmp_path: Path
) -> None:
    await prepare(sqlite_url)
    working = machine.worker(slots=4).started()
    # A worker with a free slot often claims jobs, and would learn from the answer that it counts as lost. These workers
    # are full and beat every few seconds, while the first worker checks for lost ones several times a second.
    held = ["held0"] if scale.is_smallest else ["held0", "held1", "held2"]
    holding = started(*(machine.worker("--queue", "held", slots=1, lost_after=30) for _ in held))
    await machine.hold(tmp_path / "gate", *held, queue="held")
    jobs = scale.times(100, least=60)
    client = machine.client(jobs=jobs + 100, rate=40, delayed=0.6, longest_delay=5.0, seed=seed, wait=True)
    settings = ["+2h", "-2h", "-1s", "+30d"] * scale.times(1)
    for place, offset in enumerate(settings, 1):
        so_many = len(held) + jobs * place / (len(settings) + 1)
        await machine.until(lambda history, so_many=so_many: len(history.adds) > so_many)
        machine.clock.set(offset)
        assert runs_of(machine, *held) == [1] * len(held)
    # Only the jobs delayed by the clock that was thirty days ahead wait for thirty days.
    await machine.until(lambda history: len(history.adds) > so_many + 60)
    machine.clock.set("+0")
    client.line("added")
    (tmp_path / "gate").touch()
    await machine.until(lambda history: all(run.end for run in history.runs if run.token in held))
    assert await left_for_a_month(machine) > 0
    machine.clock.set("+31d")
    # Workers look for due jobs every 10 s, and after the add of a delayed job.
    await machine.add([quick(token="bell")], delay=0.5)
    client.done(60)
    await machine.drained()
    verdict = await machine.verdict(undisturbed=True)
    report("SQLite: clock set under all processes", tried=len(settings) + 2, **verdict.figures)
    assert verdict.text == ""
    assert runs_of(machine, *held) == [1] * len(held)
    assert {run.pid for run in verdict.history.runs} == {worker.pid for worker in [working, *holding]}
    assert not any(final.lost for final in verdict.finals if final.token in held)


async def test_a_dead_workers_jobs_are_rescued_in_the_usual_time_after_the_clock_was_set_back(
    sqlite_url: str, machine: Machine, report: Callable[..., None], tmp_path: Path
) -> None:
    await prepare(sqlite_url)
    gate = tmp_path / "gate"
    workers = {worker.pid: worker for worker in started(*(machine.worker(lost_after=LONG_LEASE) for _ in range(2)))}
    await machine.hold(gate, "held")
    dead = workers.pop(machine.history().runs[0].pid)
    [living] = workers
    pause(dead, sqlite_url)
    machine.clock.set("-2h")
    paused_at = time.monotonic()
    await machine.until(lambda history: len(history.runs) == 2)
    waited = time.monotonic() - paused_at
    gate.touch()
    dead.cont()
    await machine.drained()
    verdict = await machine.verdict(undisturbed=True)
    report("SQLite: SIGSTOP, and the clock set back", tried=1, **verdict.figures)
    assert verdict.text == ""
    assert [run.pid for run in verdict.history.runs] == [dead.pid, living]
    # The last heartbeat was at most a quarter of the lease ago.
    assert LONG_LEASE / 2 < waited < LONG_LEASE + SLACK


async def test_workers_in_different_time_namespaces_see_each_other_as_alive(
    sqlite_url: str, load_on: Callable[..., Load], report: Callable[..., None], tmp_path: Path
) -> None:
    await prepare(sqlite_url)
    load, gate = load_on(sqlite_url), tmp_path / "gate"
    apart = ("unshare", "--time", "--boottime", "1000000", "--fork", "--kill-child", "--")
    started(load.contained(apart, slots=1, lost_after=LONG_LEASE), load.worker(slots=1, lost_after=LONG_LEASE))
    await load.hold(gate, "inside or outside", "the other")
    async with open_storage(sqlite_url) as storage:
        before = [worker.beat_at for worker in await storage.workers()]
        # Both workers send heartbeats for longer than a lease, and neither is lost.
        await asyncio.sleep(1.25 * LONG_LEASE)
        after = [worker.beat_at for worker in await storage.workers()]
    assert all(then < now for then, now in zip(before, after, strict=True))
    gate.touch()
    await load.drained()
    verdict = await load.verdict(undisturbed=True)
    report("SQLite: another time namespace", tried=1, **verdict.figures)
    assert verdict.text == ""
    assert len({run.pid for run in verdict.history.runs}) == len(verdict.history.runs) == 2
