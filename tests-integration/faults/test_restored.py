"""PostgreSQL restored from a dump, or to a point in time, also while previous workers still run."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import load_jobs
import psycopg
import pytest
from cluster import DURABLE, folder_of
from journal import now
from load import Load
from scaling import Scale
from tables import OF_TABLES
from wrong import Wrong

from jobq_core import open_storage
from jobq_core.adding import new_job
from jobq_core.ids import new_id
from jobq_core.records import WorkerInfo, WorkerStats
from jobq_core.states import Ending, JobState
from jobq_core.storage import Claim, ClaimedJob, LeaseStatus, QueueStorage, Settlement
from jobq_storage_postgres.testing import ThrowawayPostgres
from jobq_storage_postgres.testing.binaries import find

GUIDE = Path(__file__).parents[2] / "docs" / "operations" / "backup.md"
VARIED = {"rate": 80, "many": 20, "keys": 4, "delayed": 0.1}
"""The plan of the clients of this file."""
NEVER_AGAIN = "SELECT setval('jobq.lease', nextval('jobq.lease') + 1000000000)"
"""The statement that the guide tells operators to run if previous workers may still run."""


def run(tool: str, *arguments: str | Path) -> None:
    """Run one of PostgreSQL's tools."""
    binaries = find()
    assert isinstance(binaries, Path), "a backup needs the server's binaries"
    done = subprocess.run([binaries / tool, *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def database(server: ThrowawayPostgres, name: str) -> str:
    """Make an empty database, and return its URL."""
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
    return urlsplit(server.dsn)._replace(path=f"/{name}").geturl()


@pytest.fixture
def archiving() -> Iterator[tuple[ThrowawayPostgres, Path]]:
    """A server that archives its log segments in a folder beside its data."""
    command = {"archive_mode": "on", "archive_command": "cp %p ../archive/%f"}
    with ThrowawayPostgres(settings={**DURABLE, **command}) as server:
        folder = folder_of(server)
        archive, owner = folder / "archive", folder.stat()
        archive.mkdir()
        os.chown(archive, owner.st_uid, owner.st_gid)
        yield server, archive


async def drained(
    children: Any, folder: Path, url: str, kept: set[UUID], gated: UUID, report: Callable[..., None], fault: str
) -> set[UUID]:
    """Run the jobs of a restored database, whose earlier workers are gone; return its jobs."""
    await asyncio.to_thread(folder.mkdir)
    restored = Load(children, folder, url)
    worker = restored.worker().started()
    await restored.drained()
    finals, runs = await restored.finals(), restored.history().runs
    jobs = {final.job for final in finals}
    verdict = await restored.verdict()
    lost, doubled = len(kept - jobs), verdict.count(Wrong.DOUBLY_OWNED, Wrong.LEASE_TWICE)
    report(fault, tried=1, added=len(jobs), runs=len(runs), lost=lost, doubled=doubled)
    assert (lost, doubled) == (0, 0)
    assert verdict.count(*OF_TABLES) == 0, verdict.text
    assert {final.state for final in finals} == {JobState.COMPLETED}
    assert gated in {run.job for run in runs}, "the job was running at the time of the backup, and runs again"
    assert worker.alive
    return jobs


async def test_a_dump_made_under_load_has_all_acknowledged_jobs_and_drains_after_a_restore(
    postgres: ThrowawayPostgres,
    load_on: Callable[..., Load],
    children: Any,
    report: Callable[..., None],
    tmp_path: Path,
    scale: Scale,
    seed: int,
) -> None:
    url, gate = database(postgres, "shop"), tmp_path / "gate"
    await open_storage(url).migrate()
    load = load_on(url)
    workers, client = load.at_work(jobs=scale.times(100, least=100), **VARIED, seed=seed)
    (gated,) = await load.hold(gate, "gated")
    dumps: list[tuple[Path, set[UUID]]] = []
    for number in range(scale.times(1)):
        dumps.append((tmp_path / f"dump{number}", await load.some_more(client)))
        await asyncio.to_thread(run, "pg_dump", "--format=custom", "--file", dumps[-1][0], "--dbname", url)
    gate.touch()
    verdict = await load.unnoticed(client, *workers)
    report("PostgreSQL: dumps made", tried=len(dumps), **verdict.figures)
    for number, (dump, kept) in enumerate(dumps):
        restored = database(postgres, f"restored{number}")
        await asyncio.to_thread(run, "pg_restore", "--dbname", restored, dump)
        await drained(children, tmp_path / f"of{number}", restored, kept, gated, report, "PostgreSQL: dump restored")


async def test_a_server_restored_to_a_point_in_time_has_all_earlier_acknowledged_jobs_and_drains(
    archiving: tuple[ThrowawayPostgres, Path],
    load_on: Callable[..., Load],
    children: Any,
    report: Callable[..., None],
    tmp_path: Path,
    seed: int,
) -> None:
    (server, archive), gate, base = archiving, tmp_path / "gate", tmp_path / "base"
    await open_storage(server.dsn).migrate()
    load = load_on(server.dsn)
    workers, client = load.at_work(jobs=150, **VARIED, seed=seed)
    (gated,) = await load.hold(gate, "gated")
    await load.some_more(client)
    await asyncio.to_thread(
        run, "pg_basebackup", "--dbname", server.dsn, "--pgdata", base, "--checkpoint=fast", "--no-sync"
    )
    kept = await load.some_more(client)
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute("SELECT pg_create_restore_point('here')")
    (later,) = await load.add([load_jobs.quick(token="later")])
    gate.touch()
    verdict = await load.unnoticed(client, *workers)
    report("PostgreSQL: base backup made", tried=1, **verdict.figures)
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute("SELECT pg_switch_wal()")
    server.halt()  # a halt waits until all of the log is in the archive
    target = {"restore_command": f"cp {archive}/%f %p", "recovery_target_name": "here"}
    with ThrowawayPostgres(settings={**DURABLE, **target, "recovery_target_action": "promote"}) as other:
        other.halt()
        data = folder_of(other) / "data"
        owner = data.stat()
        shutil.rmtree(data)
        shutil.copytree(base, data, symlinks=True)
        (data / "recovery.signal").touch()
        for path in (data, *data.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        data.chmod(0o700)
        other.start()
        await promoted(other)
        jobs = await drained(
            children, tmp_path / "restored", other.dsn, kept, gated, report, "PostgreSQL: restored to a point in time"
        )
        assert later not in jobs


async def promoted(server: ThrowawayPostgres) -> None:
    """Wait until a server accepts writes."""
    async with asyncio.timeout(30), await psycopg.AsyncConnection.connect(server.dsn, autocommit=True) as connection:
        while (await (await connection.execute("SELECT pg_is_in_recovery()")).fetchone()) != (False,):  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # the change is in the server


async def test_a_dump_put_in_place_under_running_workers_drains_and_leaves_all_their_slots_free(
    postgres: ThrowawayPostgres, load_on: Callable[..., Load], report: Callable[..., None], tmp_path: Path, seed: int
) -> None:
    """Against all advice, no worker stops, and workers get lease numbers again that they or others already hold."""
    url, gate, dump = database(postgres, "shop"), tmp_path / "gate", tmp_path / "dump"
    await open_storage(url).migrate()
    load = load_on(url)
    workers, client = load.at_work(jobs=400, rate=80, kinds={"quick": 1, "sleeping": 9}, seed=seed, wait=False)
    kept = await load.some_more(client)
    await asyncio.to_thread(run, "pg_dump", "--schema=jobq", "--format=custom", "--file", dump, "--dbname", url)
    restored = database(postgres, "restored")
    await asyncio.to_thread(run, "pg_restore", "--dbname", restored, dump)
    # Other jobs soon get these lease numbers. The old runs would never end if their workers did not find that out.
    await load.hold(tmp_path / "never", *(f"gone {n}" for n in range(6)))
    with psycopg.connect(postgres.dsn, autocommit=True) as admin:
        admin.execute("ALTER DATABASE shop ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = 'shop'")
        admin.execute("ALTER DATABASE shop RENAME TO former")
        admin.execute("ALTER DATABASE restored RENAME TO shop")
    recovery = await load.next_run(now())
    client.line("added", 120)
    await load.drained()
    finals = await load.finals()
    lost = len(kept - {final.job for final in finals})
    report("PostgreSQL: dump put in place under load", tried=1, added=len(finals), lost=lost, recovery=recovery)
    assert lost == 0
    assert {final.state for final in finals} == {JobState.COMPLETED}
    assert all(worker.alive for worker in workers)
    await load.hold(gate, *(f"full {n}" for n in range(8)))
    await asyncio.to_thread(gate.touch)
    await load.drained()


def a_worker() -> WorkerInfo:
    return WorkerInfo(
        id=new_id(), name="w", host="h", pid=1, queues=("default",), kinds=("quick",), concurrency=1, lost_after=30.0
    )


async def claimed(storage: QueueStorage, worker: WorkerInfo) -> ClaimedJob:
    """Claim the one job that waits."""
    await storage.register(worker)
    (job,) = (await storage.settle_and_claim(worker.id, [], Claim.of("default", limit=1))).claimed
    return job


@pytest.mark.parametrize("careful", [False, True], ids=["as_restored", "with_new_numbers"])
async def test_a_previous_worker_settles_nothing_once_the_restored_database_gives_new_lease_numbers(
    postgres: ThrowawayPostgres, tmp_path: Path, report: Callable[..., None], careful: bool
) -> None:
    """Without new numbers its settlement counts, as the docs warn: another run has the same lease number."""
    url, dump = database(postgres, "shop"), tmp_path / "dump"
    former, new = a_worker(), a_worker()
    await open_storage(url).migrate()
    async with open_storage(url) as storage:
        await storage.add([new_job(new_id(), load_jobs.quick(token="one"), "default", {})])
        await asyncio.to_thread(run, "pg_dump", "--schema=jobq", "--format=custom", "--file", dump, "--dbname", url)
        held = await claimed(storage, former)
    restored = database(postgres, "restored")
    await asyncio.to_thread(run, "pg_restore", "--dbname", restored, dump)
    if careful:
        assert f"`{NEVER_AGAIN}`" in await asyncio.to_thread(GUIDE.read_text)
        with psycopg.connect(restored, autocommit=True) as admin:
            admin.execute(NEVER_AGAIN.encode())
    async with open_storage(restored) as storage:
        job = await claimed(storage, new)
        assert job.id == held.id
        assert (job.lease != held.lease) is careful
        # In both cases the next heartbeat and the next check of its leases show that the previous worker holds nothing.
        heartbeat = storage.heartbeat(former)
        assert not await asyncio.to_thread(heartbeat.beat, WorkerStats())
        heartbeat.close()
        assert await storage.check_leases(former.id, [(held.id, held.lease)]) == [LeaseStatus(held=False)]
        # But its run may end before that.
        ended = Settlement(held.id, held.lease, Ending.COMPLETE, b'"former"')
        await storage.settle_and_claim(former.id, [ended], None)
        assert await storage.check_leases(new.id, [(job.id, job.lease)]) == [LeaseStatus(held=careful)]
    report("PostgreSQL: a previous worker settles", tried=1, added=1)
