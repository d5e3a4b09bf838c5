"""A SQLite file is backed up under load in each documented way; each restored copy is a working queue."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

from load import Load, Process
from scaling import Scale
from tables import OF_TABLES
from wrong import Wrong

from jobq_client import JobQueueClient
from jobq_core import open_storage
from jobq_core.states import JobState


def backup(path: Path, copy: Path, _running: Collection[Process]) -> None:
    with closing(sqlite3.connect(path, timeout=10)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def vacuum_into(path: Path, copy: Path, _running: Collection[Process]) -> None:
    with closing(sqlite3.connect(path, timeout=10)) as source:
        source.execute("VACUUM INTO ?", (str(copy),))


def snapshot(path: Path, copy: Path, running: Collection[Process]) -> None:
    """Copy all three files while all processes are paused."""
    for process in running:
        process.stop()
    try:
        for ending in ("", "-wal", "-shm"):
            shutil.copyfile(f"{path}{ending}", f"{copy}{ending}")
    finally:
        for process in running:
            process.cont()


def dump(path: Path, copy: Path, _running: Collection[Process]) -> None:
    """Dump the tables with the sqlite3 command, and load the dump into a new file."""
    script = subprocess.run(
        ["sqlite3", "-cmd", ".timeout 10000", path, ".dump"], capture_output=True, check=True, timeout=60
    ).stdout
    subprocess.run(["sqlite3", copy], input=script, capture_output=True, check=True, timeout=60)


# The snapshot comes last: the processes paused for it may lose a lease afterwards.
WAYS = {"Connection.backup": backup, "VACUUM INTO": vacuum_into, ".dump": dump, "snapshot": snapshot}


async def test_backups_made_under_load_have_all_acknowledged_jobs_and_drain_after_a_restore(
    sqlite_url: str,
    load_on: Callable[..., Load],
    children: Any,
    report: Callable[..., None],
    tmp_path: Path,
    scale: Scale,
    seed: int,
) -> None:
    path, gate = tmp_path / "jobs.db", tmp_path / "gate"
    await open_storage(sqlite_url).migrate()
    load = load_on(sqlite_url)
    workers, client = load.at_work(jobs=scale.times(250, least=200), rate=60, many=20, delayed=0.1, seed=seed)
    (gated,) = await load.hold(gate, "gated")
    copies: list[tuple[str, Path, set[UUID]]] = []
    for number, (name, way) in enumerate(list(WAYS.items()) * scale.times(1)):
        acknowledged = await load.some_more(client, 30)
        copy = tmp_path / f"restored{number}" / "jobs.db"
        copy.parent.mkdir()
        copies.append((name, copy, acknowledged))
        await asyncio.to_thread(way, path, copy, (*workers, client))
    gate.touch()
    verdict = await load.unnoticed(client, *workers)
    report("SQLite: backups made", tried=len(copies), **verdict.figures)
    async with JobQueueClient(f"sqlite:///{copies[0][1]}") as before_any_worker:
        assert await before_any_worker.disable(gated)
    elsewhere = [restore(children, copy) for _, copy, _ in copies]
    for number, ((name, copy, acknowledged), (restored, jobs, worker)) in enumerate(
        zip(copies, elsewhere, strict=True)
    ):
        await restored.drained()
        finals = await restored.finals()
        runs = restored.history().runs
        verdict = await restored.verdict()
        doubled = verdict.count(Wrong.DOUBLY_OWNED, Wrong.LEASE_TWICE)
        lost = len(acknowledged - jobs)
        report(f"SQLite: {name} restored", tried=1, added=len(jobs), runs=len(runs), lost=lost, doubled=doubled)
        assert (lost, doubled) == (0, 0), name
        assert verdict.count(*OF_TABLES) == 0, verdict.text
        assert {final.job for final in finals} == jobs
        # The job was running at the time of the backup, so the restored queue runs it again.
        held_back = {gated} if number == 0 else set()
        assert {gated} & {run.job for run in runs} == {gated} - held_back
        assert {final.job for final in finals if final.state is not JobState.COMPLETED} == held_back
        assert {final.state for final in finals if final.job in held_back} <= {JobState.DISABLED}
        assert worker.alive
        assert whole(copy)


def whole(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def restore(children: Any, copy: Path) -> tuple[Load, set[UUID], Process]:
    """Check a backup and start a worker on it; return the load there, the jobs in it, and the worker."""
    assert whole(copy)
    with closing(sqlite3.connect(copy)) as connection:
        jobs = {UUID(bytes=id_) for (id_,) in connection.execute("SELECT id FROM jobq_job")}
    restored = Load(children, copy.parent, f"sqlite:///{copy}")
    return restored, jobs, restored.worker().started()
