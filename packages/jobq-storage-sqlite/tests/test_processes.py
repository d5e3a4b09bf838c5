"""Several processes on one file."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from jobq_core.states import JobState
from jobq_core.storage import queue_topic
from jobq_storage_sqlite import SqliteQueueStorage

CHILDREN = Path(__file__).parent / "children"

OTHER_PYTHON = os.environ.get("JOBQ_TEST_OTHER_PYTHON", sys.executable)
"""The interpreter of half of the processes: another one where `nox -s pythons` runs the tests."""


@asynccontextmanager
async def child(name: str, *arguments: str | Path, python: str = sys.executable) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        python, CHILDREN / f"{name}.py", *map(str, arguments), stdin=PIPE, stdout=PIPE, limit=2**22
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_of(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def tell(process: Process, line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
    await process.stdin.drain()


async def test_four_processes_run_each_job_exactly_once(path: Path) -> None:
    async with (
        child("busy", path, "1000", python=OTHER_PYTHON) as first,
        child("busy", path, "1000", python=OTHER_PYTHON) as second,
        child("busy", path, "1000") as third,
        child("busy", path, "1000") as fourth,
    ):
        processes = (first, second, third, fourth)
        assert [await line_of(process) for process in processes] == ["ready"] * 4
        for process in processes:
            await tell(process, "go")
        ran = [json.loads(await line_of(process)) for process in processes]
        assert [await process.wait() for process in processes] == [0] * 4
    assert all(ran), "each process ran some"
    times = Counter(job for jobs in ran for job in jobs)
    async with SqliteQueueStorage(path) as storage:
        counts = (await storage.counts("default"))["default"]
        # A process that finds nothing to claim stops, though others still add; their last jobs may be left over.
        assert counts[JobState.COMPLETED] == len(times)
        assert counts[JobState.COMPLETED] + counts[JobState.PENDING] == 4000
        assert counts[JobState.PROCESSING] == 0
    assert set(times.values()) == {1}


async def test_a_process_killed_while_it_writes_loses_nothing_that_was_acknowledged(path: Path) -> None:
    for _ in range(3):
        acknowledged: list[UUID] = []
        async with child("adder", path) as process:
            while len(acknowledged) < 300:
                acknowledged.append(UUID(await line_of(process)))
            process.kill()
            await process.wait()
            while line := await line_of(process):
                if len(line) == 36:
                    acknowledged.append(UUID(line))
        async with SqliteQueueStorage(path) as storage:
            assert None not in await storage.get_status(acknowledged)


async def test_a_job_of_another_process_notifies_the_subscriptions_to_its_queue_only(path: Path) -> None:
    async with SqliteQueueStorage(path) as storage, child("notifier", path, python=OTHER_PYTHON) as process:
        assert await line_of(process) == "ready"
        mail, images = queue_topic("mail"), queue_topic("images")
        async with storage.subscribe([mail]) as postman, storage.subscribe([images, mail]) as both:
            async with storage.subscribe([images]) as painter:
                waiting = asyncio.create_task(painter.wait())
                await tell(process, "mail")
                assert await postman.wait(30) == {mail}
                assert await both.wait(30) == {mail}
                await tell(process, "images")
                assert await waiting == {images}
                assert await both.wait(30) == {images}
                assert await postman.wait(0) == frozenset()


async def test_a_notification_between_two_waits_ends_the_next(path: Path) -> None:
    topic = queue_topic("mail")
    async with SqliteQueueStorage(path) as storage, child("notifier", path) as process:
        assert await line_of(process) == "ready"
        async with storage.subscribe([topic]) as subscription:
            for _ in range(3):
                await tell(process, "mail")
                assert await line_of(process) == "added"
                assert await subscription.wait(30) == {topic}


async def test_processes_that_open_a_new_file_at_once_make_its_tables_once(path: Path) -> None:
    async with (
        child("opener", path, python=OTHER_PYTHON) as first,
        child("opener", path, python=OTHER_PYTHON) as second,
        child("opener", path) as third,
        child("opener", path) as fourth,
    ):
        processes = (first, second, third, fourth)
        assert [await line_of(process) for process in processes] == ["ready"] * 4
        for process in processes:
            await tell(process, "go")
        applied = sorted([json.loads(await line_of(process)) for process in processes])
    assert applied == [[], [], [], ["0001_pre_jobs"]]


async def test_a_storage_left_open_does_not_keep_the_interpreter_from_ending(path: Path) -> None:
    async with child("unclosed", path) as process:
        assert await line_of(process) == "end"
        assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_a_forked_process_must_open_its_own_and_closes_its_parent_s_without_harm(path: Path) -> None:
    async with child("forked", path) as process:
        assert "open one of its own" in await line_of(process)
        assert await line_of(process) == "parent: 3"
