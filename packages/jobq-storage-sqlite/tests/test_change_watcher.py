"""How commits of other processes are found: by hints, without them, and when polling fails."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
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
    """Another object on the file, as another process would have it."""
    async with SqliteQueueStorage(path) as other:
        yield other


async def notified(subscription: Subscription, other: SqliteQueueStorage) -> None:
    """Have the other object notify, during and before a wait."""
    waiting = asyncio.create_task(subscription.wait())
    await asyncio.sleep(0)
    await add_job(other)
    assert await asyncio.wait_for(waiting, 30) == {TOPIC}
    await add_job(other)
    assert await subscription.wait(30) == {TOPIC}


async def test_another_objects_commit_is_found_by_the_kernels_hints(
    storage: SqliteQueueStorage, other: SqliteQueueStorage
) -> None:
    async with storage.subscribe([TOPIC]) as subscription:
        await notified(subscription, other)


async def test_without_hints_the_file_is_polled(
    storage: SqliteQueueStorage, other: SqliteQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_watcher, "watch_writes", lambda file: None)
    async with storage.subscribe([TOPIC]) as subscription:
        await notified(subscription, other)


async def test_hints_that_do_not_come_are_given_up_on(
    storage: SqliteQueueStorage, other: SqliteQueueStorage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = path.with_name("another file")
    silent.touch()
    polling = asyncio.Event()
    loop = asyncio.get_running_loop()
    poll = change_watcher.ChangeWatcher._poll

    def polls(self: Any, connection: Any) -> None:
        loop.call_soon_threadsafe(polling.set)
        poll(self, connection)

    monkeypatch.setattr(change_watcher, "watch_writes", lambda file: watch_writes(silent))
    monkeypatch.setattr(change_watcher, "UNHINTED_SECONDS", 0.01)
    monkeypatch.setattr(change_watcher, "STEPS_SECONDS", (0.001,) * 4)
    monkeypatch.setattr(change_watcher.ChangeWatcher, "_poll", polls)
    async with storage.subscribe([TOPIC]) as subscription:
        while not polling.is_set():
            waiting = asyncio.create_task(subscription.wait(30))
            await asyncio.sleep(0)
            await add_job(other)
            assert await waiting == {TOPIC}
        await notified(subscription, other)


async def test_polling_that_fails_notifies_all_topics_and_starts_again(
    storage: SqliteQueueStorage, other: SqliteQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_watcher, "RETRY_SECONDS", 0.01)
    poll_once = change_watcher.ChangeWatcher._poll_once
    failures = iter([True])

    def fails(self: Any, connection: sqlite3.Connection) -> bool:
        if next(failures, False):
            raise sqlite3.OperationalError("disk I/O error")
        return poll_once(self, connection)

    monkeypatch.setattr(change_watcher.ChangeWatcher, "_poll_once", fails)
    async with storage.subscribe([TOPIC, FINISHED_TOPIC]) as subscription:
        topics: set[str] = set()
        while topics != {TOPIC, FINISHED_TOPIC}:
            topics |= await subscription.wait(30)
        await notified(subscription, other)


async def test_a_commit_of_this_object_is_not_notified_twice(
    storage: SqliteQueueStorage, other: SqliteQueueStorage
) -> None:
    async with storage.subscribe([TOPIC, WAITING_TOPIC]) as subscription:
        for _ in range(10):
            await add_job(storage)
            assert await subscription.wait(30) == {TOPIC}
            # The watcher has seen both commits by the time it delivers this one.
            await add_job(other, run_at=60.0)
            assert await subscription.wait(30) == {WAITING_TOPIC}


async def test_a_subscription_gets_nothing_that_was_committed_before_it(
    storage: SqliteQueueStorage, other: SqliteQueueStorage
) -> None:
    await add_job(other)
    await add_job(storage)
    async with storage.subscribe([TOPIC]) as subscription:
        assert await subscription.wait(0.05) == frozenset()


async def test_closing_ends_the_waiting_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_watcher, "UNHINTED_SECONDS", 3600.0)
    async with SqliteQueueStorage(path) as storage, storage.subscribe([TOPIC]) as subscription:
        waiting = asyncio.create_task(subscription.wait())
        await asyncio.sleep(0)
        await storage.close()
        with pytest.raises(ClosedError):
            await waiting


def test_hints_are_given_of_writes_to_the_file_and_of_wakes(path: Path) -> None:
    path.touch()
    hints = watch_writes(path)
    assert isinstance(hints, Inotify)
    with hints:
        assert not hints.wait(0)
        with path.open("ab") as file:
            file.write(b"x")
        assert hints.wait(10)
        assert not hints.wait(0)
        hints.wake()
        assert hints.wait(10)
        assert not hints.wait(0)


def test_there_are_no_hints_about_a_missing_file(path: Path) -> None:
    assert watch_writes(path) is None


@pytest.mark.parametrize("own", [True, False], ids=["the same storage", "another storage"])
async def test_an_add_that_returned_is_notified_whatever_its_event_loop_does_next(
    storage: SqliteQueueStorage, other: SqliteQueueStorage, own: bool
) -> None:
    """A client that added and then computed delayed the wake-up by as long."""
    listening, heard = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    async def listen() -> None:
        async with (storage if own else other).subscribe([TOPIC]) as subscription:
            waiting = asyncio.create_task(subscription.wait(30))
            await asyncio.sleep(0)
            loop.call_soon_threadsafe(listening.set)
            if await waiting == {TOPIC}:
                heard.set()

    listener = threading.Thread(target=lambda: asyncio.run(listen()))
    listener.start()
    await listening.wait()
    await add_job(storage)
    assert heard.wait(30), "this loop runs nothing meanwhile"
    listener.join()
