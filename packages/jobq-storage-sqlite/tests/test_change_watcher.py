"""How commits of other processes are heard of: by hints, without them, and when looking fails."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jobq_core.errors import ClosedError
from jobq_core.storage import FINISHED_TOPIC, WAITING_TOPIC, Subscription, queue_topic
from jobq_core.testing import add_job
from jobq_storage_sqlite import SqliteQueueStorage, change_watcher
from jobq_storage_sqlite.inotify import Inotify, watch_writes

TOPIC = queue_topic("default")


@pytest.fixture
async def other(storage: SqliteQueueStorage, path: Path) -> AsyncIterator[SqliteQueueStorage]:
    """Another object on the file, which this one knows no more of than of another process."""
    async with SqliteQueueStorage(path) as other:
        yield other


async def rung(ear: Subscription, other: SqliteQueueStorage) -> None:
    """Have the other one ring, while and before somebody waits."""
    waiting = asyncio.create_task(ear.wait())
    await asyncio.sleep(0)
    await add_job(other)
    assert await asyncio.wait_for(waiting, 30) == {TOPIC}
    await add_job(other)
    assert await ear.wait(30) == {TOPIC}


async def test_another_ones_commit_is_heard_of_by_the_kernels_hints(
    storage: SqliteQueueStorage, other: SqliteQueueStorage
) -> None:
    async with storage.subscribe([TOPIC]) as ear:
        await rung(ear, other)


async def test_without_hints_the_file_is_asked(
    storage: SqliteQueueStorage, other: SqliteQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_watcher, "watch_writes", lambda file: None)
    async with storage.subscribe([TOPIC]) as ear:
        await rung(ear, other)


async def test_hints_that_do_not_come_are_given_up_on(
    storage: SqliteQueueStorage, other: SqliteQueueStorage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = path.with_name("another file")
    deaf.touch()
    polling = asyncio.Event()
    loop = asyncio.get_running_loop()
    poll = change_watcher.ChangeWatcher._poll

    def polls(self: Any, version: Any) -> None:
        loop.call_soon_threadsafe(polling.set)
        poll(self, version)

    monkeypatch.setattr(change_watcher, "watch_writes", lambda file: watch_writes(deaf))
    monkeypatch.setattr(change_watcher, "UNHINTED", 0.01)
    monkeypatch.setattr(change_watcher, "STEPS", (0.001,) * 3)
    monkeypatch.setattr(change_watcher.ChangeWatcher, "_poll", polls)
    async with storage.subscribe([TOPIC]) as ear:
        while not polling.is_set():
            waiting = asyncio.create_task(ear.wait(30))
            await asyncio.sleep(0)
            await add_job(other)
            assert await waiting == {TOPIC}
        await rung(ear, other)


async def test_looking_that_fails_rings_for_all_and_is_taken_up_again(
    storage: SqliteQueueStorage, other: SqliteQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_watcher, "REST", 0.01)
    look = change_watcher._Version.look
    failures = iter([True])

    def fails(self: Any) -> bool:
        if next(failures, False):
            raise sqlite3.OperationalError("disk I/O error")
        return look(self)

    monkeypatch.setattr(change_watcher._Version, "look", fails)
    async with storage.subscribe([TOPIC, FINISHED_TOPIC]) as ear:
        assert await ear.wait(30) == {TOPIC, FINISHED_TOPIC}
        await rung(ear, other)


async def test_a_commit_of_this_object_is_not_rung_for_a_second_time(
    storage: SqliteQueueStorage, other: SqliteQueueStorage
) -> None:
    async with storage.subscribe([TOPIC, WAITING_TOPIC]) as ear:
        for _ in range(10):
            await add_job(storage)
            assert await ear.wait(30) == {TOPIC}
            # The watcher has seen the file change by the time it hears of the other one.
            await add_job(other, run_at=60.0)
            assert await ear.wait(30) == {WAITING_TOPIC}


async def test_a_subscription_that_begins_hears_nothing_of_what_was_before(
    storage: SqliteQueueStorage, other: SqliteQueueStorage
) -> None:
    await add_job(other)
    await add_job(storage)
    async with storage.subscribe([TOPIC]) as ear:
        assert await ear.wait(0.05) == frozenset()


async def test_closing_ends_the_waiting_at_once(path: Path) -> None:
    async with SqliteQueueStorage(path) as storage, storage.subscribe([TOPIC]) as ear:
        waiting = asyncio.create_task(ear.wait())
        await asyncio.sleep(0)
        async with asyncio.timeout(0.8):
            await storage.close()
        with pytest.raises(ClosedError):
            await waiting


def test_hints_tell_of_writes_to_the_file_and_of_pokes(path: Path) -> None:
    path.touch()
    hints = watch_writes(path)
    assert isinstance(hints, Inotify)
    with hints:
        assert not hints.wait(0)
        with path.open("ab") as file:
            file.write(b"x")
        assert hints.wait(10)
        assert not hints.wait(0)
        hints.poke()
        assert hints.wait(10)
        assert not hints.wait(0)


def test_there_are_no_hints_about_a_file_that_is_not_there(path: Path) -> None:
    assert watch_writes(path) is None
