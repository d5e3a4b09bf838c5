"""Processes are killed, paused, stopped, blocked, short of memory, or started all at once, under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from history import History, Limit
from load import HERE, LOST_AFTER, Load, Process, pause
from load_jobs import at_gate, blocking, hungry, poison, quick, sleeping, threaded
from scaling import Scale

from jobq_core import open_storage
from jobq_core.states import JobState
from jobq_storage_postgres.testing import ThrowawayPostgres

MIXED = {"quick": 10, "sleeping": 6, "threaded": 2, "flaky": 2, "doomed": 1}
SLOTS = 4
AT_ONCE = ("--stop-timeout", "0.3")
"""Option of a worker that stops its running jobs soon after SIGTERM."""
LITTLE = 160
"""Megabytes of a cgroup: enough for a worker, and half of what the hungry job allocates."""
RESCUED = re.compile(r"(\d+) jobs rescued")
PER_PROCESS = Limit(name="slots of process", most=SLOTS, group=lambda run: run.pid)


@pytest.fixture
def load(migrated_url: str, load_on: Callable[..., Load]) -> Load:
    return load_on(migrated_url)


@pytest.fixture
def dice(seed: int, request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"{seed} {request.node.name}")


def end(workers: list[Process]) -> None:
    """Stop workers; each must exit with 0."""
    for worker in workers:
        worker.term()
    assert [worker.wait() for worker in workers] == [0] * len(workers)


async def more_runs(load: Load, count: int) -> None:
    """Wait until `count` more runs have begun, or until all clients have finished."""
    before = len(load.history().runs)
    clients = [process for process in load.processes if "load_client.py" in " ".join(process.child.command)]
    await load.until(lambda history: len(history.runs) >= before + count or not any(client.alive for client in clients))


async def test_workers_servers_and_clients_killed_at_random_lose_nothing_and_run_no_job_twice_at_once(
    load: Load, report: Any, seed: int, scale: Scale, dice: random.Random, tmp_path: Path
) -> None:
    kills = scale.times(6, least=3)
    plan = {"seed": seed, "wait": True, "rate": 250.0, "kinds": MIXED, "keys": 3, "delayed": 0.05, "many": 40,
            "aborted": 0.1, "changed": 0.1}  # fmt: skip

    def start(kind: str) -> Process:
        if kind == "client":
            return load.client(jobs=200, **plan)
        return load.worker(command=kind, slots=SLOTS)

    kinds = ["worker", "server", "client", "client"]
    running = [start(kind).started() for kind in kinds]
    # The first killed process holds a lease, and the first three are one of each kind.
    await load.hold(tmp_path / "gate", "gated")
    holder = [run.pid for run in load.history().runs if run.token == "gated"][-1]
    places = [[process.pid for process in running].index(holder)]
    places += dice.sample(sorted({0, 1, dice.choice([2, 3])} - set(places)), 2)
    places += dice.choices(range(4), k=kills - 3)
    for place in places:
        await more_runs(load, dice.randrange(20, 60))
        running[place].kill()
        (tmp_path / "gate").touch()
        running[place] = start(kinds[place]).started()
    for client in running[2:]:
        assert client.wait(90) == 0
    await load.drained(90)
    end(running[:2])
    verdict = await load.verdict(limits=[PER_PROCESS], undisturbed=True)
    report("SIGKILL of workers, servers, clients", tried=kills, **verdict.figures)
    assert verdict.text == ""
    assert any(final.lost for final in verdict.finals if final.token == "gated")


async def test_a_worker_paused_past_its_lease_changes_nothing_when_it_resumes(
    load: Load, report: Any, scale: Scale, dice: random.Random, tmp_path: Path
) -> None:
    kinds = [
        *(lambda token: sleeping(token=token, seconds=0.3), lambda token: threaded(token=token, seconds=0.3)),
        lambda token: quick(token=token),
    ]
    rounds = scale.times(1)
    for round_ in range(rounds):
        (tmp_path / "gate").unlink(missing_ok=True)
        worker = load.worker(slots=8).started()
        before_it = len(load.history().runs)
        # Two jobs wait at the gate, so that some jobs run during the pause; all others use the six other slots.
        gated = [at_gate(token=f"{round_}-gated{number}", gate=str(tmp_path / "gate")) for number in range(2)]
        await load.add([*gated, *(dice.choice(kinds)(f"{round_}-{number}") for number in range(80))])
        seen = before_it + dice.randrange(9, 25)
        await load.until(lambda history, seen=seen: len(history.runs) >= seen)
        pause(worker, load.url)
        paused = [run for run in load.history().runs if run.pid == worker.pid and run.end is None]
        assert paused
        other = load.worker(slots=8).started()
        (tmp_path / "gate").touch()
        await load.drained(60)
        before = {final.job: final for final in await load.finals()}
        worker.cont()
        worker.line("counted as lost")
        # The worker continues as a new one; by then its messages about the old leases have arrived.
        other.term()
        assert other.wait() == 0
        await load.add([quick(token=f"{round_}-after")])
        await load.drained(30)
        await load.until(lambda history, pid=worker.pid: all(run.end for run in history.runs if run.pid == pid))
        end([worker])
        after = {final.job: final for final in await load.finals()}
        assert {job: after[job] for job in before} == before
    verdict = await load.verdict(undisturbed=True)
    report("SIGSTOP past the lease, SIGCONT", tried=rounds, **verdict.figures)
    assert verdict.text == ""


async def test_workers_and_servers_stopped_under_load_lose_no_lease(
    load: Load, report: Any, seed: int, scale: Scale, dice: random.Random
) -> None:
    stops = scale.times(4, least=2)
    running = [load.worker(command=command, slots=SLOTS).started() for command in ("worker", "server")]
    commands = ["worker", "server"]
    client = load.client(
        jobs=150 * stops, seed=seed, wait=True, rate=300.0, kinds=MIXED, many=40, aborted=0.1, changed=0.1
    )
    for _ in range(stops):
        await more_runs(load, dice.randrange(20, 60))
        place = dice.randrange(2)
        end([running[place]])
        running[place] = load.worker(command=commands[place], slots=SLOTS).started()
    assert client.wait(90) == 0
    await load.drained()
    end(running)
    verdict = await load.verdict(limits=[PER_PROCESS], undisturbed=True)
    report("SIGTERM while draining", tried=stops, **verdict.figures)
    assert verdict.text == ""
    troubled = {*verdict.history.interrupted, *verdict.history.late}
    pids = {run.lease: run.pid for run in verdict.history.runs}
    lost = [lease for final in verdict.finals for lease in final.lost if pids.get(lease) not in troubled]
    assert lost == []


def long_jobs(seconds: float) -> list[Any]:
    """Make jobs of both kinds, twice as many as one worker runs at once."""
    return [kind(token=f"{kind.__name__} {n}", seconds=seconds) for n in range(SLOTS) for kind in (sleeping, threaded)]


async def busy(load: Load, worker: Process, jobs: int) -> None:
    """Wait until all slots of a worker are busy, or until it runs all jobs that have not completed."""

    def runs_all(history: History) -> bool:
        left = jobs - len({run.token for run in history.runs if run.ending == "completed"})
        return sum(run.pid == worker.pid and run.end is None for run in history.runs) >= min(SLOTS, left)

    await load.until(runs_all)


async def test_jobs_that_outlast_a_stop_are_handed_back_and_use_no_attempt(
    load: Load, report: Any, scale: Scale
) -> None:
    stops, jobs = scale.times(3), long_jobs(seconds=2)
    await load.add(jobs, max_attempts=1)
    for _ in range(stops):
        worker = load.worker(*AT_ONCE, slots=SLOTS, lost_after=30).started()
        await busy(load, worker, len(jobs))
        end([worker])
    workers = [load.worker(slots=SLOTS, lost_after=30).started() for _ in range(2)]
    await load.drained()
    end(workers)
    verdict = await load.verdict(limits=[PER_PROCESS], undisturbed=True)
    report("SIGTERM with jobs that outlast it", tried=stops, **verdict.figures)
    assert verdict.text == ""
    assert {(final.state, final.attempt) for final in verdict.finals} == {(JobState.COMPLETED, 1)}
    assert not any(final.lost | final.failed for final in verdict.finals)


async def test_a_database_that_is_halted_while_a_worker_stops_loses_no_job(
    postgres: ThrowawayPostgres, load_on: Callable[..., Load], report: Any, scale: Scale
) -> None:
    """The server restarts before the worker gives up handing its jobs back, or afterwards."""
    await open_storage(postgres.dsn).migrate()
    load, jobs = load_on(postgres.dsn), long_jobs(seconds=2)
    await load.add(jobs)
    rounds = scale.times(1, most=10)
    for _ in range(rounds):
        for afterwards in (False, True):
            worker = load.worker(*AT_ONCE, slots=SLOTS).started()
            await busy(load, worker, len(jobs))
            worker.term()
            postgres.halt(at_once=True)
            if afterwards:
                assert worker.wait() == 0
            postgres.start()
            assert worker.wait() == 0
    workers = [load.worker(slots=SLOTS).started() for _ in range(2)]
    await load.drained()
    end(workers)
    verdict = await load.verdict(limits=[PER_PROCESS])
    report("SIGTERM while PostgreSQL is halted", tried=2 * rounds, **verdict.figures)
    assert verdict.text == ""
    assert {final.state for final in verdict.finals} == {JobState.COMPLETED}


async def test_sigterm_reaches_a_worker_that_is_pid_1(load: Load, report: Any, seed: int) -> None:
    wrapper = ("unshare", "--pid", "--fork", "--kill-child", "--")
    outside = load.contained(wrapper).started()
    client = load.client(jobs=200, seed=seed, wait=True, rate=200.0, kinds=MIXED).started()
    await more_runs(load, 30)
    children = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()  # noqa: ASYNC240
    assert len(children) == 1, f"unshare started {children}"
    inside = Path(f"/proc/{children[0]}/status").read_text()  # noqa: ASYNC240
    assert [line.split()[-1] for line in inside.splitlines() if line.startswith("NSpid")] == ["1"]

    os.kill(int(children[0]), signal.SIGTERM)
    assert outside.wait() == 0
    assert " stopped: " in outside.output
    other = load.worker().started()
    assert client.wait(60) == 0
    await load.drained()
    end([other])
    verdict = await load.verdict(undisturbed=True)
    report("SIGTERM as PID 1", tried=1, **verdict.figures)
    assert verdict.text == ""
    assert verdict.excused or not any(final.lost for final in verdict.finals)


async def test_an_event_loop_blocked_for_less_than_a_lease_loses_no_lease(
    load: Load, report: Any, scale: Scale
) -> None:
    worker, other = (load.worker(slots=2).started() for _ in range(2))
    rounds = scale.times(1)
    for round_ in range(rounds):
        await load.add([blocking(token=f"b{round_}-{n}", seconds=LOST_AFTER * 0.6) for n in range(2)])
        await load.add([sleeping(token=f"s{round_}-{n}", seconds=0.01) for n in range(50)])
        await load.drained()
    end([worker, other])
    verdict = await load.verdict(undisturbed=True)
    report("event loop blocked within a lease", tried=2 * rounds, **verdict.figures)
    assert verdict.text == ""
    blocked = Counter(run.token for run in verdict.history.runs if run.token.startswith("b"))
    assert verdict.excused or set(blocked.values()) == {1}


async def test_a_job_that_runs_out_of_memory_fails_alone(load: Load, report: Any, scale: Scale) -> None:
    worker = load.contained(("prlimit", f"--as={3 * 2**30}")).started()
    tried = scale.times(3)
    await load.add([hungry(token=f"h{n}", megabytes=4096) for n in range(tried)], max_attempts=2)
    load.ends |= {f"h{n}": JobState.FAILED for n in range(tried)}
    await load.add([sleeping(token=f"s{n}", seconds=0.01) for n in range(60)])
    await load.add([hungry(token=f"little{n}", megabytes=8) for n in range(3)])
    await load.drained()
    end([worker])
    verdict = await load.verdict(undisturbed=True)
    report("out of memory by rlimit", tried=2 * tried, **verdict.figures)
    assert verdict.text == ""
    assert "MemoryError" in worker.output


async def supervised(load: Load, until: asyncio.Event, slots: int) -> list[Process]:
    """Keep one worker running, as an init system would: start another one after each death."""
    lives: list[Process] = []
    while True:
        worker = load.worker(slots=slots)
        lives.append(worker)
        while worker.alive and not until.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        if until.is_set():
            return lives
        worker.died()


async def test_a_poison_job_fails_and_affects_no_other_job(load: Load, report: Any, scale: Scale) -> None:
    rounds, taken, lost, round_ = scale.times(1), 0, 0, 0
    # The load of the machine decides whether the worker's buffer holds jobs at its death; at least once it must.
    while round_ < rounds or (taken == lost and round_ < rounds + 3):
        # Short jobs come first, so that the worker holds many jobs when the poison job kills it.
        await load.add([quick(token=f"{round_}-a{n}") for n in range(300)])
        await load.add([poison(token=f"{round_}-poison")])
        await load.add([quick(token=f"{round_}-b{n}") for n in range(200)])
        # These jobs have one attempt, which they keep when they are in the buffer of the killed worker.
        await load.add([quick(token=f"{round_}-c{n}") for n in range(200)], max_attempts=1)
        load.ends[f"{round_}-poison"] = JobState.FAILED
        drained = asyncio.Event()
        # There is one slot: with more, the jobs that run beside the poison job would die with it.
        keeping = asyncio.create_task(supervised(load, drained, slots=1))
        await load.drained(90)
        drained.set()
        lives = await keeping
        end(lives[-1:])
        assert [life.wait() for life in lives[:-1]] == [-9] * 3
        taken += sum(int(count) for life in lives for count in RESCUED.findall(life.output))
        lost = sum(len(final.lost) for final in await load.finals())
        round_ += 1
    verdict = await load.verdict(undisturbed=True)
    report("a job that kills its process", tried=3 * round_, **verdict.figures)
    assert verdict.text == ""
    runs = Counter(run.token for run in verdict.history.runs)
    assert {runs[f"{number}-poison"] for number in range(round_)} == {3}
    # Some of the rescued jobs were in the buffer and had not started, so they lost no attempt.
    assert taken > lost, f"{taken} jobs were rescued, and {lost} of their runs count"


async def test_many_processes_that_start_at_once_share_the_jobs(
    load: Load, report: Any, seed: int, scale: Scale
) -> None:
    count = 8 if scale.is_smallest else 20
    await load.add([sleeping(token=f"s{n}", seconds=0.01) for n in range(500)])
    workers = [load.worker(slots=2, lost_after=20) for _ in range(count)]
    for worker in workers:
        worker.started(60)
    client = load.client(jobs=300, seed=seed, wait=True)
    assert client.wait(60) == 0
    await load.drained()
    end(workers)
    verdict = await load.verdict(limits=[Limit(name="slots", most=2, group=lambda run: run.pid)], undisturbed=True)
    report(f"{count} processes start at once", tried=1, **verdict.figures)
    assert verdict.text == ""


async def test_a_job_queue_of_both_modes_is_killed_and_the_others_get_each_end_event_once(
    load: Load, report: Any, scale: Scale
) -> None:
    def start(name: str) -> Process:
        return load.python(HERE / "load_both.py", load.url, name, "150", str(LOST_AFTER))

    rounds = scale.times(1)
    for round_ in range(rounds):
        seen = len(load.history().runs) + 60
        doomed, survivor = start(f"doomed{round_}").started(), start(f"survivor{round_}").started()
        await load.until(lambda history, seen=seen: len(history.runs) >= seen)
        doomed.kill()
        survivor.done(90)
        await load.drained()
        end([survivor])
    verdict = await load.verdict(limits=[PER_PROCESS], undisturbed=True)
    report("SIGKILL of a JobQueue (BOTH)", tried=rounds, **verdict.figures)
    assert verdict.text == ""


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A memory cgroup of LITTLE megabytes, which only root can make."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    group = Path("/sys/fs/cgroup" if unified else "/sys/fs/cgroup/memory", f"jobq-faults-{os.getpid()}")
    limits = ("memory.max", "memory.swap.max") if unified else ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    group.mkdir()
    try:
        (group / limits[0]).write_text(str(LITTLE * 2**20))
        if (group / limits[1]).exists():
            (group / limits[1]).write_text("0" if unified else str(LITTLE * 2**20))
        yield group
    finally:
        for _ in range(100):
            # The last process may take a moment to disappear.
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.05)


def oom_kills(group: Path) -> int:
    """Return the number of processes of a cgroup that the kernel killed because the memory ran out."""
    counts = next(path for name in ("memory.events", "memory.oom_control") if (path := group / name).exists())
    return next(int(line.split()[1]) for line in counts.read_text().splitlines() if line.startswith("oom_kill "))


async def test_a_worker_that_the_kernel_kills_out_of_memory_loses_nothing(
    load: Load, report: Any, scale: Scale, small_memory: Path
) -> None:
    """As in a container: the kernel kills the process without a MemoryError, and the other workers run its jobs."""
    enter = ("sh", "-c", f'echo $$ > {small_memory / "cgroup.procs"} && exec "$@"', "sh")
    rounds = scale.times(1, most=10)
    for round_ in range(rounds):
        victim = load.contained(enter).started()
        await load.add([sleeping(token=f"s{round_}-{n}", seconds=0.05) for n in range(60)])
        await load.add([hungry(token=f"hungry{round_}", megabytes=2 * LITTLE)])
        await load.add([threaded(token=f"t{round_}-{n}", seconds=0.05) for n in range(60)])
        victim.died()
        other = load.worker().started()
        await load.drained()
        end([other])
        assert victim.wait() == -9
    verdict = await load.verdict(undisturbed=True)
    kills = oom_kills(small_memory)
    report("out of memory in a cgroup", tried=kills, **verdict.figures)
    assert verdict.text == ""
    assert kills == rounds
