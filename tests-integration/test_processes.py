"""Workers and servers as processes: they share jobs, stop, are killed and restart."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from pausing import pause_between_writes
from shop_jobs import at_gate, block, count, deaf, exhaust_descriptors, reported_at_gate, say_pid, thread_at_gate
from watching import Gate, Log

from jobq_client import JobHandle, JobQueueClient
from jobq_core import AbortSignalJobError, JobRecord, JobState, WorkerLostError, open_storage
from jobq_worker.processes.exits import ExitCode
from jobq_worker.processes.signals import SAME_SECONDS

KINDS = (at_gate, thread_at_gate)
QUICK = ("--lost-after", "2", "--heartbeat-interval", "0.5")
"""Options for a worker that is lost after 2 seconds instead of 30, to keep the tests short."""


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


@pytest.fixture(params=["worker", "server"])
def command(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def start(children: Any, command: str, url: str, slots: int, *more: str) -> Any:
    """Start a worker or a server with this concurrency, and wait until it claims jobs."""
    option = {"worker": "--concurrency", "server": "--workers"}[command]
    child = children.jobq(command, "shop_jobs", "--storage", url, option, str(slots), *more)
    child.wait_for_line("started")
    return child


async def records_of(client: JobQueueClient, handles: list[JobHandle[Any]]) -> list[JobRecord]:
    """Return the records of the jobs, all of which must exist."""
    found = [await client.get(handle) for handle in handles]
    return [record for record in found if record is not None]


@pytest.mark.parametrize("commands", [("worker", "worker"), ("worker", "server")], ids="-".join)
async def test_two_processes_share_2000_jobs_and_run_each_once(
    migrated_url: str, children: Any, log: Log, commands: tuple[str, str]
) -> None:
    async with JobQueueClient(migrated_url) as client:
        handles = await client.add_many([say_pid(log=str(log)) for _ in range(2000)])
        for command in commands:
            children.jobq(command, "shop_jobs", "--storage", migrated_url)
        pids = await asyncio.gather(*(client.wait_for(handle, timeout=90) for handle in handles))
        counts = await client.counts()
    assert counts[JobState.COMPLETED] == 2000
    assert Counter(map(int, log.lines)) == Counter(pids)  # the runs, and the worker on record for each job


async def test_a_second_process_does_not_run_what_the_first_runs(
    migrated_url: str, children: Any, command: str, log: Log, gate: Gate
) -> None:
    start(children, command, migrated_url, 1)
    async with JobQueueClient(migrated_url) as client:
        held = await client.add(at_gate(gate=str(gate), log=str(log), name="held"))
        await log.has("started held")
        second = start(children, command, migrated_url, 2)
        assert await client.wait_for(await client.add(say_pid(log=str(log))), timeout=30) == second.process.pid
        second.terminate()
        assert second.wait() == 0
        start(children, command, migrated_url, 2)  # a restart of the second
        await client.wait_for(await client.add(say_pid(log=str(log))), timeout=30)
        gate.open()
        assert await client.wait_for(held, timeout=30) == "held"
    assert log.lines.count("started held") == 1


@pytest.mark.parametrize("kind", KINDS, ids=["coroutine", "thread"])
async def test_an_abort_reaches_a_running_job_in_another_process_within_a_second(
    migrated_url: str, children: Any, log: Log, gate: Gate, kind: Any
) -> None:
    start(children, "worker", migrated_url, 2)
    async with JobQueueClient(migrated_url) as client:
        handle = await client.add(kind(gate=str(gate), log=str(log), name="it"))
        await log.has("started it")
        before = time.monotonic()
        assert await handle.abort()
        await log.until(lambda lines: lines[-1] in ("cancelled it", "aborted it"))
        assert time.monotonic() - before < 1
        with pytest.raises(AbortSignalJobError):
            await client.wait_for(handle, timeout=30)
        (record,) = await records_of(client, [handle])
        assert (record.state, record.attempt) == (JobState.ABORTED, 1)


async def test_aborting_a_run_affects_only_its_jobs_in_all_processes(
    migrated_url: str, children: Any, log: Log, gate: Gate
) -> None:
    start(children, "worker", migrated_url, 1)
    start(children, "server", migrated_url, 1)
    async with JobQueueClient(migrated_url) as client:
        handles = [
            await client.add(at_gate(gate=f"{gate}-{run}", log=str(log), name=f"{run}{n}"), run_id=run)
            for n in range(2)
            for run in ("a", "b")
        ]
        await log.until(lambda lines: len(lines) == 2)
        assert await client.abort_run("a") == 2
        Gate(Path(f"{gate}-b")).open()
        assert [await client.wait_for(handle, timeout=30) for handle in handles[1::2]] == ["b0", "b1"]
        for handle in handles[::2]:
            with pytest.raises(AbortSignalJobError):
                await client.wait_for(handle, timeout=30)
    assert not {"finished a0", "finished a1"} & set(log.lines)


async def test_sigterm_lets_running_jobs_end_claims_no_more_and_exits_with_0(
    migrated_url: str, children: Any, command: str, log: Log, tmp_path: Path
) -> None:
    gates = [Gate(tmp_path / "first"), Gate(tmp_path / "second")]
    child = start(children, command, migrated_url, 1, "--stop-timeout", "3")
    async with JobQueueClient(migrated_url) as client:
        handles = [await client.add(at_gate(gate=str(gate), log=str(log), name=gate.path.name)) for gate in gates]
        await log.has("started first")
        child.terminate()
        gates[0].open()
        assert child.wait() == 0
        first, second = await records_of(client, handles)
        assert (first.state, first.attempt) == (JobState.COMPLETED, 1)
        assert (second.state, second.attempt) == (JobState.PENDING, 0)
        assert await client.storage.workers() == []
    assert "stopped: 1 completed" in child.output


async def test_sigterm_releases_jobs_that_do_not_end_before_the_timeout(
    migrated_url: str, children: Any, command: str, log: Log, gate: Gate
) -> None:
    child = start(children, command, migrated_url, 2, "--stop-timeout", "0.2")
    async with JobQueueClient(migrated_url) as client:
        handles = await client.add_many([kind(gate=str(gate), log=str(log), name="it") for kind in KINDS])
        await log.until(lambda lines: lines.count("started it") == 2)
        child.terminate()
        assert child.wait() == 0
        for record in await records_of(client, handles):
            assert (record.state, record.attempt, record.attempts) == (JobState.PENDING, 0, ())
    assert {"cancelled it", "aborted it"} <= set(log.lines)


async def test_a_second_signal_stops_at_once(
    migrated_url: str, children: Any, command: str, log: Log, gate: Gate
) -> None:
    child = start(children, command, migrated_url, 1, "--stop-timeout", "600")
    async with JobQueueClient(migrated_url) as client:
        handle = await client.add(at_gate(gate=str(gate), log=str(log), name="it"))
        await log.has("started it")
        child.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            child.process.wait(SAME_SECONDS + 0.1)  # signals within a second count as one
        child.process.send_signal(signal.SIGINT)
        assert child.wait() == 0
        (record,) = await records_of(client, [handle])
        assert (record.state, record.attempt) == (JobState.PENDING, 0)
    assert log.lines == ["started it", "cancelled it"]


async def test_a_handler_that_ignores_its_abort_does_not_keep_the_process_alive(
    migrated_url: str, children: Any, command: str, log: Log, gate: Gate
) -> None:
    child = start(children, command, migrated_url, 1, "--stop-timeout", "0")
    async with JobQueueClient(migrated_url) as client:
        handle = await client.add(deaf(gate=str(gate), log=str(log)))
        await log.has("started deaf")
        child.terminate()
        assert child.wait() == ExitCode.RUNS_LEFT
        (record,) = await records_of(client, [handle])
        assert (record.state, record.attempt) == (JobState.PROCESSING, 1), "it is rescued when the lease runs out"


async def test_the_jobs_of_a_killed_worker_are_rescued_and_each_ends_once(
    migrated_url: str, children: Any, command: str, log: Log, gate: Gate
) -> None:
    # Only the killed worker counts as lost, even on a busy machine.
    unhurried = ("--lost-after", "5", "--heartbeat-interval", "0.5")
    killed = start(children, command, migrated_url, 4, "--name", "doomed", *unhurried)
    async with JobQueueClient(migrated_url) as client:
        names = [f"job{n}" for n in range(4)]
        handles = await client.add_many([at_gate(gate=str(gate), log=str(log), name=name) for name in names])
        await log.has(*(f"started {name}" for name in names))
        start(children, command, migrated_url, 4, *unhurried)
        killed.kill()
        gate.open()
        assert [await client.wait_for(handle, timeout=60) for handle in handles] == names
        records = await records_of(client, handles)
        assert [worker.info.name for worker in await client.storage.workers()] != ["doomed"]
    assert Counter(log.lines) == Counter(
        {line: times for name in names for line, times in ((f"started {name}", 2), (f"finished {name}", 1))}
    )
    for record in records:
        assert (record.state, record.attempt) == (JobState.COMPLETED, 2)
        (attempt,) = record.attempts
        assert "WorkerLostError" in attempt.error.type
        assert "doomed" in attempt.error.message


async def test_a_job_that_kills_its_worker_runs_out_of_attempts_and_is_followed_once(
    migrated_url: str, children: Any, log: Log, gate: Gate
) -> None:
    async with JobQueueClient(migrated_url) as client:
        handle = await client.add(reported_at_gate(gate=str(gate), log=str(log), name="it"), max_attempts=2)
        for runs in (1, 2):
            child = start(children, "worker", migrated_url, 1, *QUICK)
            await log.until(lambda lines, runs=runs: lines.count("started it") == runs)
            child.kill()
        start(children, "worker", migrated_url, 1, *QUICK)
        with pytest.raises(WorkerLostError, match="missed its heartbeat"):
            await client.wait_for(handle, timeout=60)
        (record,) = await records_of(client, [handle])
        assert (record.state, record.attempt, len(record.attempts)) == (JobState.FAILED, 2, 2)
        await log.until(lambda lines: len(lines) == 3)
        async with asyncio.timeout(30):
            while (await client.counts())[JobState.COMPLETED] == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        [followed] = [job async for job in client.find_all(kind="report_failure")]
        found = await client.get(followed.id)
    assert found is not None
    assert found.result == str(handle.id)
    assert log.lines == ["started it"] * 2 + ["reported_at_gate failed: jobq_core.errors.WorkerLostError"]


async def test_a_resumed_worker_cannot_settle_jobs_that_others_have_claimed(
    migrated_url: str, children: Any, log: Log, gate: Gate
) -> None:
    stalled = start(children, "worker", migrated_url, 1, "--name", "stalled", *QUICK)
    async with JobQueueClient(migrated_url) as client:
        handle = await client.add(at_gate(gate=str(gate), log=str(log), name="it"))
        await log.has("started it")
        send = stalled.process.send_signal
        pause_between_writes(lambda: send(signal.SIGSTOP), lambda: send(signal.SIGCONT), migrated_url)
        other = start(children, "worker", migrated_url, 1, "--name", "other", *QUICK)
        await log.until(lambda lines: lines.count("started it") == 2, timeout=60)
        gate.open()
        assert await client.wait_for(handle, timeout=30) == "it"
        (before,) = await records_of(client, [handle])
        send(signal.SIGCONT)
        # The worker notices that it was lost, registers again with a new identity, and continues.
        stalled.wait_for_line("counted as lost|could not renew")
        other.terminate()
        assert other.wait() == 0
        pid = await client.wait_for(await client.add(say_pid(log=str(log))), timeout=30)
        assert pid == stalled.process.pid
        (after,) = await records_of(client, [handle])
        assert after == before
        assert (after.attempt, after.state) == (2, JobState.COMPLETED)


async def test_a_job_that_blocks_its_event_loop_holds_up_no_other_job_for_longer_than_a_lease(
    migrated_url: str, children: Any, log: Log, gate: Gate
) -> None:
    stuck = start(children, "worker", migrated_url, 2, "--name", "stuck", *QUICK)
    async with JobQueueClient(migrated_url) as client:
        held = await client.add(at_gate(gate=str(gate), log=str(log), name="it"))
        await log.has("started it")
        blocking = await client.add(block(gate=f"{gate}-of-the-loop", log=str(log)))
        await log.has("started block 1")
        stuck.wait_for_line("the event loop has been blocked for 1", timeout=30)
        other = start(children, "worker", migrated_url, 2, "--name", "other", *QUICK)
        gate.open()
        assert await client.wait_for(held, timeout=30) == "it"
        await client.wait_for(blocking, timeout=30)
        assert [record.attempt for record in await records_of(client, [held, blocking])] == [2, 2]
        Gate(Path(f"{gate}-of-the-loop")).open()
        stuck.wait_for_line("the event loop responds again")
        other.terminate()
        assert other.wait() == 0
        pid = await client.wait_for(await client.add(say_pid(log=str(log))), timeout=30)
        assert pid == stuck.process.pid, "it is registered again"
    assert "in block" in stuck.output, "the log has the stack"


async def test_jobs_added_without_a_running_worker_are_kept(migrated_url: str, children: Any, log: Log) -> None:
    adding = children.python(
        "-c",
        """
import asyncio, sys
from jobq_client import JobQueueClient
from shop_jobs import count

async def main():
    async with JobQueueClient(sys.argv[1]) as client:
        await client.add_many([count(log=sys.argv[2], n=n) for n in range(50)])

asyncio.run(main())
""",
        migrated_url,
        str(log),
    )
    assert adding.wait() == 0
    start(children, "worker", migrated_url, 5)
    await log.until(lambda lines: len(lines) == 50)
    assert sorted(map(int, log.lines)) == list(range(50))


async def test_each_queue_is_served_by_the_workers_that_name_it(migrated_url: str, children: Any, log: Log) -> None:
    mail = start(children, "worker", migrated_url, 1, "--queue", "mail")
    rest = start(children, "server", migrated_url, 1, "--queue", "images", "--queue", "sound")
    async with JobQueueClient(migrated_url) as client:
        ran = {
            queue: await client.wait_for(await client.add(say_pid(log=str(log)), queue=queue), timeout=30)
            for queue in ("mail", "images", "sound")
        }
        waiting = await client.add(count(log=str(log), n=1))
        assert (await client.get(waiting)).state is JobState.PENDING  # type: ignore[union-attr]
    assert ran == {"mail": mail.process.pid, "images": rest.process.pid, "sound": rest.process.pid}


async def test_no_job_is_lost_in_an_outage_of_the_database(
    postgres_url: str, children: Any, command: str, log: Log, gate: Gate, postgres_server: Any
) -> None:
    await open_storage(postgres_url).migrate()
    child = start(children, command, postgres_url, 2)
    name = urlsplit(postgres_url).path.lstrip("/")
    async with (
        JobQueueClient(postgres_url) as client,
        await psycopg.AsyncConnection.connect(postgres_server.dsn, autocommit=True) as admin,
    ):
        running = await client.add(at_gate(gate=str(gate), log=str(log), name="it"))
        await log.has("started it")
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        gate.open()
        await log.has("finished it")
        child.wait_for_line("the storage fails")
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert await client.wait_for(running, timeout=60) == "it"
        assert await client.wait_for(await client.add(say_pid(log=str(log))), timeout=60) == child.process.pid
        child.wait_for_line("the storage is back")
        child.terminate()
        assert child.wait() == 0
    assert log.lines[:2] == ["started it", "finished it"]
    assert len(log.lines) == 3


async def test_a_worker_without_file_descriptors_waits_for_some_and_goes_on(
    postgres_url: str, children: Any, log: Log, gate: Gate, postgres_server: Any
) -> None:
    await open_storage(postgres_url).migrate()
    child = start(children, "worker", postgres_url, 2)
    name = urlsplit(postgres_url).path.lstrip("/")
    async with (
        JobQueueClient(postgres_url) as client,
        await psycopg.AsyncConnection.connect(postgres_server.dsn, autocommit=True) as admin,
    ):
        exhausting = await client.add(exhaust_descriptors(gate=str(gate), log=str(log)))
        await log.has("exhausted")
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        # A connection that is replaced before it is used takes the place of the one before. A heartbeat needs one more.
        child.wait_for_line("the storage fails|heartbeat failed")
        gate.open()
        await client.wait_for(exhausting, timeout=60)
        assert await client.wait_for(await client.add(say_pid(log=str(log))), timeout=60) == child.process.pid
        child.wait_for_line("the storage is back|heartbeat works again")
        child.terminate()
        assert child.wait() == 0


def upgrade(url: str) -> None:
    """Apply a 'pre' migration of a later release: an additional column in every table, and its record."""
    note = "INSERT INTO {}migration (name, checksum) VALUES ('9999_pre_later', 'of a later release')"
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)) as file, file:
            for table in ("job", "life", "attempt", "worker", "topic"):
                file.execute(f"ALTER TABLE jobq_{table} ADD COLUMN later TEXT DEFAULT 'x'")
            file.execute(note.format("jobq_"))
    else:
        with psycopg.connect(url, autocommit=True) as connection:
            for table in ("job", "waiting", "ready", "running", "outcome", "attempt", "unique_key", "worker", "tally"):
                connection.execute(f"ALTER TABLE jobq.{table} ADD COLUMN later text DEFAULT 'x'".encode())
            connection.execute(note.format("jobq.").encode())


async def test_workers_run_jobs_on_tables_that_a_later_release_has_migrated(
    migrated_url: str, children: Any, log: Log, gate: Gate
) -> None:
    """This covers a worker that was started before and holds a job, and a worker that is started after."""
    process = start(children, "worker", migrated_url, 2)
    async with JobQueueClient(migrated_url) as client:
        held = await client.add(at_gate(gate=str(gate), log=str(log), name="held"))
        await log.has("started held")
        await asyncio.to_thread(upgrade, migrated_url)
        gate.open()
        await client.wait_for(held, timeout=30)
        for _ in range(2):
            handle = await client.add(say_pid(log=str(log)), delay=0.1)
            assert await client.wait_for(handle, timeout=30) == process.process.pid
            process.terminate()
            assert process.wait() == 0
            assert "Traceback" not in process.output
            process = start(children, "worker", migrated_url, 2)
        assert (await client.counts())[JobState.COMPLETED] == 3
