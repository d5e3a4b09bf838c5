"""SQLite's file, log or index of the log is moved, deleted, replaced or copied under running workers and clients."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from journal import now
from load import LOST_AFTER, PATIENT, Load
from scaling import Scale

from jobq_core import open_storage

GONE, PARTED = "deleted or moved away while in use", "stop all processes that use the file"


def beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def whole(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_processes_continue_with_a_file_that_is_moved_away_and_back(
    sqlite_url: str, load_on: Callable[..., Load], report: Callable[..., None], tmp_path: Path, scale: Scale, seed: int
) -> None:
    path, away = tmp_path / "jobs.db", tmp_path / "away.db"
    await open_storage(sqlite_url).migrate()
    load = load_on(sqlite_url)
    workers, client = load.at_work(jobs=scale.times(200, least=100), rate=80, seed=seed)
    times, longest = scale.times(2), 0.0
    for _ in range(times):
        before = len(load.history().runs)
        await load.until(lambda history, before=before: len(history.runs) > before + 40)
        await asyncio.to_thread(path.rename, away)
        # The file is away for longer than a lease.
        await asyncio.sleep(1.5 * LOST_AFTER)
        assert not await asyncio.to_thread(path.exists), "no process makes a new file in its place"
        await asyncio.to_thread(away.rename, path)
        longest = max(longest, await load.next_run(now()))
    client.done(120)
    await load.drained()
    verdict = await load.verdict()
    report("SQLite: file moved away and back", tried=times, **verdict.figures | {"recovery": longest})
    assert verdict.text == ""
    assert all(worker.alive and GONE in worker.output for worker in workers)
    assert whole(path)


def delete_log(path: Path) -> None:
    beside(path, "-wal").unlink()


def delete_index(path: Path) -> None:
    beside(path, "-shm").unlink()


def restore_a_copy(path: Path) -> None:
    """Replace the file by a copy with all acknowledged jobs; nothing is acknowledged while the file is away."""
    away, copy = path.with_name("away.db"), path.with_name("copy.db")
    path.rename(away)
    # The pending operations have ended, and the log does not change.
    time.sleep(0.5)
    shutil.copy(away, copy)
    shutil.copy(beside(path, "-wal"), beside(copy, "-wal"))
    assert whole(copy)  # closing the copy merges its log
    copy.rename(path)


@pytest.mark.parametrize("displace", [delete_log, delete_index, restore_a_copy])
async def test_nothing_is_lost_after_a_deleted_log_or_a_replaced_file_once_all_processes_restart(
    sqlite_url: str,
    load_on: Callable[..., Load],
    report: Callable[..., None],
    tmp_path: Path,
    seed: int,
    displace: Callable[[Path], None],
) -> None:
    path = tmp_path / "jobs.db"
    await open_storage(sqlite_url).migrate()
    load = load_on(sqlite_url)
    workers, client = load.at_work(jobs=10_000, rate=80, seed=seed, wait=False)
    await load.until(lambda history: len(history.runs) > 60)
    await asyncio.to_thread(displace, path)
    for worker in workers:
        await asyncio.to_thread(worker.line, PARTED)
    # The processes end without being asked to stop.
    for process in (*workers, client):
        process.kill()
    back = now()
    worker = load.worker().started()
    recovery = await load.next_run(back)
    await load.drained()
    verdict = await load.verdict()
    report(f"SQLite: {displace.__name__}", tried=1, **verdict.figures | {"recovery": recovery})
    assert verdict.text == ""
    assert worker.alive
    assert whole(path)


async def test_a_copy_made_under_load_is_an_independent_queue(
    sqlite_url: str,
    load_on: Callable[..., Load],
    children: Any,
    report: Callable[..., None],
    tmp_path: Path,
    seed: int,
) -> None:
    path, copy = tmp_path / "jobs.db", tmp_path / "copy.db"
    await open_storage(sqlite_url).migrate()
    load = load_on(sqlite_url)
    worker = load.worker().started()
    client = load.client(jobs=200, rate=60, seed=seed, **PATIENT).started()
    await load.until(lambda history: len(history.runs) > 60)
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    assert whole(copy)
    (tmp_path / "elsewhere").mkdir()
    elsewhere = Load(children, tmp_path / "elsewhere", f"sqlite:///{copy}")
    other = elsewhere.worker().started()
    # The jobs that other workers held in the copy are rescued, and all jobs run there.
    await elsewhere.drained()
    client.done(120)
    await load.drained()
    verdict = await load.verdict(undisturbed=True)
    report("SQLite: file copied", tried=1, **verdict.figures)
    assert verdict.text == ""
    assert worker.alive
    assert other.alive
    assert whole(copy)
    assert whole(path)
