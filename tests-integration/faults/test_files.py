"""SQLite with a full disk, a locked or read-only file, or killed writers."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from disks import full, refused, small
from journal import now
from load import PATIENT, Load, Process
from pausing import locked
from scaling import Scale

from jobq_core import StorageError, open_storage
from jobq_core.storage import QueueOptions, Retention

SMALL = 32
"""Megabytes of the disk that becomes full; the log alone takes about 5 before a checkpoint."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk, which only root can mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with small(folder, SMALL):
        yield folder


async def close_up(
    load: Load, report: Callable[..., None], fault: str, tried: int, recovery: float | None, clients: list[Process]
) -> None:
    for client in clients:
        client.done(120)
    await load.drained()
    verdict = await load.verdict()
    report(fault, tried=tried, **verdict.figures | {"recovery": recovery})
    assert verdict.text == ""


async def test_workers_and_clients_wait_for_a_full_disk_and_acknowledged_jobs_are_kept(
    small_disk: Path, load_on: Callable[..., Load], report: Callable[..., None], scale: Scale, seed: int
) -> None:
    url = f"sqlite:///{small_disk / 'jobs.db'}"
    await open_storage(url).migrate()
    load = load_on(url)
    workers = [load.worker().started() for _ in range(2)]
    client = load.client(jobs=scale.times(300, least=150), rate=80, seed=seed, **PATIENT).started()
    times, longest = scale.times(2), 0.0
    for _ in range(times):
        before = len(load.history().runs)
        await load.until(lambda history, before=before: len(history.runs) > before + 50)
        with full(small_disk):
            await refused(url, "the disk is full")
            await asyncio.sleep(2)
        longest = max(longest, await load.next_run(now()))
    await close_up(load, report, "SQLite: disk full", times, longest, [client])
    assert all(worker.alive for worker in workers)


async def test_workers_and_clients_wait_for_a_foreign_writer_that_holds_the_lock_for_long(
    sqlite_url: str, load_on: Callable[..., Load], report: Callable[..., None], tmp_path: Path, scale: Scale, seed: int
) -> None:
    await open_storage(sqlite_url).migrate()
    load = load_on(sqlite_url)
    workers = [load.worker(lost_after=6.0).started() for _ in range(2)]
    client = load.client(jobs=200, rate=60, seed=seed, **PATIENT).started()
    await load.until(lambda history: len(history.runs) > 40)
    with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        # This is longer than busy_timeout, 10 s, and than a lease.
        await asyncio.sleep(60 if scale.is_soak else 12)
        other.execute("ROLLBACK")
    await close_up(load, report, "SQLite: locked for long", 1, await load.next_run(now()), [client])
    assert all(worker.alive for worker in workers)


async def pause_during_a_write(worker: Process, url: str) -> None:
    """Pause a worker while it has the write lock."""
    async with asyncio.timeout(90):
        while True:
            await asyncio.sleep(0.01)
            worker.stop()
            # Other writers hold the lock only for a moment.
            if locked(url) and await asyncio.to_thread(locked, url, 1.0):
                return
            worker.cont()


async def test_a_worker_paused_during_a_write_blocks_all_others_and_loses_nothing(
    sqlite_url: str, load_on: Callable[..., Load], report: Callable[..., None], scale: Scale, seed: int
) -> None:
    await open_storage(sqlite_url).migrate()
    load = load_on(sqlite_url)
    (paused, other), client = load.at_work(jobs=500, rate=80, seed=seed)
    await load.until(lambda history: len(history.runs) > 40)
    await pause_during_a_write(paused, sqlite_url)
    # The pause is longer than busy_timeout, 10 s, and than a lease: the paused write is the first to be committed.
    await asyncio.sleep(60 if scale.is_soak else 12)
    paused.cont()
    recovery = await load.next_run(now())
    await close_up(load, report, "SQLite: SIGSTOP during a write", 1, recovery, [client])
    assert paused.alive
    assert other.alive


async def test_writers_killed_at_any_moment_leave_an_intact_file(
    sqlite_url: str, load_on: Callable[..., Load], report: Callable[..., None], tmp_path: Path, scale: Scale, seed: int
) -> None:
    await open_storage(sqlite_url).migrate()
    load = load_on(sqlite_url)
    worker = load.worker().started()
    kills = scale.times(6, least=2)
    for kill in range(kills):
        writer = load.client(jobs=10_000, callers=20, seed=seed + kill, kinds={"quick": 1}).started()
        before = len(load.history().adds)
        await load.until(lambda history, before=before: len(history.adds) > before + 40)
        writer.kill()
    await close_up(load, report, "SQLite: writer killed", kills, None, [])
    assert worker.alive
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_a_read_only_file_raises_at_once_and_works_again_when_it_is_writable(
    tmp_path: Path, load_on: Callable[..., Load], report: Callable[..., None]
) -> None:
    """Root may write to any file, so the disk is read-only here."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    await asyncio.to_thread(
        subprocess.run, ["mount", "-t", "tmpfs", "-o", "size=32m", "jobq-faults", folder], check=True
    )
    try:
        url = f"sqlite:///{folder / 'jobs.db'}"
        await open_storage(url).migrate()
        load = load_on(url)
        first = load.client(jobs=40, kinds={"quick": 1}, wait=False)
        first.done()
        # The kernel refuses to make the disk read-only while a process has the file open for writing.
        await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,ro", folder], check=True)
        before = time.monotonic()
        with pytest.raises(StorageError, match=r"written to|opened"):  # noqa: PT012 (either step may raise)
            async with open_storage(url) as storage:
                await storage.set_queue("default", QueueOptions(retention=Retention()))
                await storage.prune()
        assert time.monotonic() - before < 5
        await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,rw", folder], check=True)
        back = now()
        worker = load.worker().started()
        await close_up(load, report, "SQLite: disk read-only", 1, await load.next_run(back), [])
        worker.kill()
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", "--lazy", folder], check=True)
