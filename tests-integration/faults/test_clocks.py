"""Clocks that are two hours off, or set while processes run: schedule, leases, retention and order stay the same."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comparison.parties import PostgresSchema
from history import History
from load import LONG_LEASE, Load, Process, Verdict
from load_jobs import sleeping
from scaling import Scale
from wrongtime import Machine

from jobq_client import JobQueueClient
from jobq_core import open_storage
from jobq_core.records import JobRecord
from jobq_core.storage import JobFilter, QueueOptions, Retention

SLACK = 60.0
"""Allowed delay in seconds on a busy machine; the clocks here are wrong by thousands of seconds."""
APART = 0.25
"""Minimum seconds between two adds after which the ids must show the order of the adds: more than the error of the
clock offset after a slow answer from the database."""


@pytest.fixture
def machine(children: Any, tmp_path: Path) -> Callable[..., Machine]:
    """Return a function that makes a machine with its own clock: `machine(url, "+2h", "ahead")`.

    The verdict of each machine covers the processes of all.
    """
    processes: list[Process] = []
    return lambda url, offset, name: Machine(children, tmp_path, url, offset, name, processes)


async def records(url: str) -> list[JobRecord]:
    async with JobQueueClient(url) as client:
        return [record async for job in client.find_all() if (record := await client.get(job.id)) is not None]


def check_order(verdict: Verdict) -> int:
    """Check that ids follow the order of the adds of all clients; return the number of pairs checked."""
    adds = sorted((add for add in verdict.history.adds if add.job and add.created), key=lambda add: add.asked)
    pairs = [(a, b) for a, b in itertools.combinations(adds, 2) if b.asked - a.answered > APART]
    for first, then in pairs:
        assert first.job is not None
        assert then.job is not None
        assert first.job < then.job, f"{then.token} was added {then.asked - first.answered:.3f} s after {first.token}"
    return len(pairs)


def check_schedule(found: list[JobRecord]) -> int:
    """Check starts against due times, by the database's clock; return the number of jobs with a due time."""
    delayed = [record for record in found if record.run_at is not None]
    for record in delayed:
        assert record.run_at is not None
        assert record.started_at is not None
        if not record.attempts:  # otherwise run_at is the time of the retry
            assert -APART <= (record.run_at - record.created_at).total_seconds() <= 2 + APART
        late = (record.started_at - record.run_at).total_seconds()
        assert 0 <= late < SLACK, f"{record.id} ran {late:.3f} s after it was due"
    return len(delayed)


WAIT = """
import ctypes, time

c = ctypes.CDLL(None)

class Moment(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]

attributes, condition, mutex = (ctypes.create_string_buffer(128) for _ in range(3))
assert c.pthread_condattr_init(attributes) == 0
assert c.pthread_condattr_setclock(attributes, time.CLOCK_MONOTONIC) == 0
assert c.pthread_cond_init(condition, attributes) == 0
assert c.pthread_mutex_init(mutex, None) == 0
assert c.pthread_mutex_lock(mutex) == 0
begun = time.monotonic()
until = divmod(time.monotonic_ns() + 200_000_000, 1_000_000_000)
while c.pthread_cond_timedwait(condition, mutex, ctypes.byref(Moment(*until))) == 0:
    pass  # woken without a signal
print(f"waited {time.monotonic() - begun:.3f} s", flush=True)
"""


@pytest.mark.parametrize("offset", ["+0", "+2h", "-2h"])
def test_a_wrong_clock_leaves_waits_as_long_as_they_are(machine: Callable[..., Machine], offset: str) -> None:
    """Python's threads wait for the interpreter by such waits. When these end at once, two threads take turns at every
    instruction, and a worker stands still for seconds.
    """
    process = machine("memory:", offset, "wrong").python("-c", WAIT)
    assert process.wait() == 0, process.output
    assert float(process.output.split()[1]) >= 0.2


async def test_processes_two_hours_ahead_and_behind_agree(
    postgres_url: str, machine: Callable[..., Machine], report: Callable[..., None], seed: int, scale: Scale
) -> None:
    await open_storage(postgres_url).migrate()
    machines = [machine(postgres_url, "+2h", "ahead"), machine(postgres_url, "-2h", "behind")]
    workers = [one.worker() for one in machines]
    for worker in workers:
        worker.started()
    plan = {"jobs": scale.times(60, least=60), "rate": 25, "delayed": 0.4, "seed": seed, "wait": True}
    for client in [one.client(name=one.name, **plan) for one in machines]:
        client.done(60 + scale.times(10))
    await machines[0].drained()
    verdict = await machines[0].verdict(undisturbed=True)
    report("clocks 2 h ahead and behind", tried=4, **verdict.figures)
    assert verdict.text == ""
    assert check_order(verdict) > 100
    assert check_schedule(await records(postgres_url)) > 10
    assert {run.pid for run in verdict.history.runs} == {worker.pid for worker in workers}, "both worked"


async def test_clocks_that_are_set_while_processes_run_change_nothing(
    postgres_url: str, machine: Callable[..., Machine], report: Callable[..., None], seed: int, scale: Scale
) -> None:
    await open_storage(postgres_url).migrate()
    machines = [machine(postgres_url, "+0", "first"), machine(postgres_url, "+0", "second")]
    for worker in [one.worker() for one in machines]:
        worker.started()
    jobs = scale.times(100, least=60)
    plan = {"jobs": jobs, "rate": 25, "delayed": 0.3, "seed": seed, "wait": True}
    clients = [one.client(name=one.name, **plan) for one in machines]
    settings = ["+2h", "-2h", "+30d", "-1s", "+0"] * scale.times(1)
    for place, offset in enumerate(settings, 1):
        # The clocks are set one after the other while jobs run, so that they also disagree.
        for one in machines:
            await one.until(lambda history, place=place: len(history.adds) > 2 * jobs * place / (len(settings) + 2))
            one.clock.set(offset)
    for client in clients:
        client.done(60 + scale.times(10))
    await machines[0].drained()
    verdict = await machines[0].verdict(undisturbed=True)
    report("clocks set under running processes", tried=2 * len(settings), **verdict.figures)
    assert verdict.text == ""
    assert check_order(verdict) > 100
    assert check_schedule(await records(postgres_url)) > 10


async def test_a_step_of_the_databases_clock_takes_no_live_worker_for_lost(
    postgres_url: str,
    load_on: Callable[..., Load],
    report: Callable[..., None],
    seed: int,
    scale: Scale,
    tmp_path: Path,
) -> None:
    """The clock of the database is set an hour ahead, an hour back and right again, while workers run jobs.

    Two of them beat every 15 s only, and the third, which works, looks for lost workers every few seconds.
    """
    await open_storage(postgres_url).migrate()
    schema = PostgresSchema(postgres_url, "jobq")
    await schema.make()
    load = load_on(postgres_url)
    working = load.worker(lost_after=LONG_LEASE).started()
    holding = [load.worker("--queue", "held", slots=1, lost_after=60.0).started() for _ in range(2)]
    await load.hold(tmp_path / "gate", "held 0", "held 1", queue="held")
    kinds = {"quick": 4, "sleeping": 2, "threaded": 1}  # none is retried: a backoff would last for an hour
    client = load.client(jobs=scale.times(400, least=200), rate=40, kinds=kinds, seed=seed, wait=True).started()
    try:
        for ahead, seconds in ((3600.0, LONG_LEASE), (-3600.0, 0.5), (0.0, LONG_LEASE)):
            await schema.let_clock_run(ahead)
            # Meanwhile the leader looks for lost workers.
            await load.add([sleeping(token=f"while {ahead}", seconds=seconds)])
            await load.until(lambda history, ahead=ahead: ended(history, f"while {ahead}"))
    finally:
        await schema.let_clock_run()
        await schema.close()
    (tmp_path / "gate").touch()
    client.done(60)
    await load.drained()
    await load.drained(queue="held")
    verdict = await load.verdict(undisturbed=True, punctual=[working, *holding])
    report("the database's clock set an hour ahead and back", tried=3, **verdict.figures)
    assert verdict.text == ""
    assert "missed its heartbeat" not in working.output
    assert len([run for run in verdict.history.runs if run.token.startswith("held")]) == 2


def ended(history: History, token: str) -> bool:
    """Return whether a run of this token has ended."""
    return any(run.token == token and run.end is not None for run in history.runs)


@pytest.mark.parametrize("offset", ["+2h", "-2h"])
async def test_a_wrong_clock_neither_shortens_nor_lengthens_a_lease(
    postgres_url: str,
    machine: Callable[..., Machine],
    report: Callable[..., None],
    tmp_path: Path,
    offset: str,
) -> None:
    await open_storage(postgres_url).migrate()
    wrong, right = machine(postgres_url, offset, "wrong"), machine(postgres_url, "+0", "right")
    held = wrong.worker(lost_after=LONG_LEASE).started()
    gate = tmp_path / "gate"
    async with JobQueueClient(postgres_url) as client:
        await client.add(gated(wrong, gate))
        await wrong.until(lambda history: history.runs)
        rescuer = right.worker().started()
        # The worker lives for longer than a lease, and the other worker leaves its runs alone.
        await asyncio.sleep(1.25 * LONG_LEASE)
        assert len(wrong.history().runs) == 1
        paused_at = time.monotonic()
        held.stop()
        history = await wrong.until(lambda history: len(history.runs) == 2)
        waited = history.runs[-1].start - paused_at
        gate.touch()
        held.cont()
        await right.drained()
    verdict = await right.verdict()
    report(f"lease of a worker with a clock {offset} off", tried=1, **verdict.figures)
    assert verdict.text == ""
    assert history.runs[-1].pid == rescuer.pid
    # The last heartbeat was at most a quarter of the lease ago.
    assert LONG_LEASE / 2 < waited < LONG_LEASE + SLACK


def gated(load: Load, gate: Path) -> Any:
    """Make a job that waits for the gate, recorded as if a client process added it."""
    from journal import Asked, now
    from load_jobs import at_gate

    load.journal.write(Asked(token="gated", at=now()))
    return at_gate(token="gated", gate=str(gate))


PRUNE = """
import asyncio, sys, time
from jobq_core import open_storage

async def prune():
    async with open_storage(sys.argv[1]) as storage:
        ahead = time.time() - (await storage.now()).timestamp()
        print(f"pruned {await storage.prune()}, {ahead / 3600:+.0f} h", flush=True)

asyncio.run(prune())
"""


async def test_retention_uses_the_databases_clock(
    postgres_url: str, machine: Callable[..., Machine], report: Callable[..., None]
) -> None:
    """A machine two hours ahead must not prune jobs kept for an hour; a machine behind must prune expired jobs."""
    await open_storage(postgres_url).migrate()
    ahead, behind = machine(postgres_url, "+2h", "ahead"), machine(postgres_url, "-2h", "behind")

    def pruned(by: Machine) -> str:
        process = by.python("-c", PRUNE, postgres_url)
        assert process.wait() == 0, process.output
        return process.output.strip()

    async with open_storage(postgres_url) as storage:
        await storage.set_queue("default", QueueOptions(retention=Retention(completed=3600.0)))
        workers = [one.worker().started() for one in (ahead, behind)]
        ahead.client(jobs=40, kinds={"quick": 1}, wait=True).done()
        await ahead.drained()
        for worker in workers:
            worker.term()
        assert [worker.wait() for worker in workers] == [0, 0]
        # Workers prune every 10 s. These two prune now, and no worker runs.
        assert [pruned(ahead), pruned(behind)] == ["pruned 0, +2 h", "pruned 0, -2 h"]
        verdict = await ahead.verdict(undisturbed=True)
        assert verdict.text == ""
        assert verdict.figures["added"] == 40
        await storage.set_queue("default", QueueOptions(retention=Retention(completed=0.0)))
        assert [pruned(behind), pruned(ahead)] == ["pruned 40, -2 h", "pruned 0, +2 h"]
        assert (await storage.find(JobFilter())).jobs == []
    report("retention under clocks 2 h off", tried=4, **verdict.figures)
