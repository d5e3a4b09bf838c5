"""Workers and clients of two commits share one storage, which is migrated under them: nothing is lost, either way.

Only `nox -s skew` runs this: it installs the older commit's wheels in an environment of their own, and gives today's a
migration that the older commit does not know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from comparison.marks import mark_on_postgres, mark_on_sqlite, marked_on_postgres, marked_on_sqlite
from comparison.parties import PostgresSchema
from load import Load, Process
from load_jobs import flaky, quick

from jobq_client import JobQueueClient
from jobq_core import open_storage
from jobq_core.states import JobState

OLD_PYTHON = Path(os.environ["JOBQ_SKEW_PYTHON"])
"""The interpreter of the environment that holds the older wheels."""
OLD_FAULTS = Path(os.environ["JOBQ_SKEW_FAULTS"])
"""The older commit's folder of these tests: its processes use its own programs."""
NEWER = "0002_pre_skew"
CONTROL = """
import asyncio, sys
from jobq_client import JobQueueClient

async def main(url, asked, resting):
    async with JobQueueClient(url) as client:
        assert await client.abort(asked)
        assert await client.disable(resting) and await client.enable(resting) and await client.disable(resting)

asyncio.run(main(*sys.argv[1:]))
"""
"""A program of the older code that changes two jobs."""


class Elsewhere:
    """Starts processes with the interpreter and the commands of another environment."""

    def __init__(self, children: Any, python: Path) -> None:
        self._children = children
        self._python = python

    def python(self, *arguments: str | Path, **variables: str) -> Any:
        return self._children.start([str(self._python), *map(str, arguments)], variables)

    def jobq(self, *arguments: str | Path, **variables: str) -> Any:
        return self._children.start([str(self._python.with_name("jobq")), *map(str, arguments)], variables)


@pytest.fixture
def today(children: Any, tmp_path: Path, storage_url: str) -> Load:
    """The processes of today's code."""
    return Load(children, tmp_path, storage_url)


@pytest.fixture
def before(children: Any, tmp_path: Path, storage_url: str) -> Load:
    """The processes of the older code. They share the journal."""
    return Load(Elsewhere(children, OLD_PYTHON), tmp_path, storage_url, here=OLD_FAULTS)


def migrate(load: Load, url: str) -> str:
    """Run `jobq migrate` of that code, and return its output."""
    process = load.jobq("migrate", "--storage", url)
    assert process.wait() == 0, process.output
    return process.output


def stop(*processes: Process) -> None:
    """Stop workers as a deployment would."""
    for process in processes:
        process.term()
    assert [process.wait() for process in processes] == [0] * len(processes)


async def test_both_work_on_a_storage_that_is_migrated_under_load(
    today: Load, before: Load, storage_url: str, report: Callable[..., None], seed: int
) -> None:
    migrate(before, storage_url)
    plan = {"jobs": 300, "rate": 60, "delayed": 0.2, "aborted": 0.05, "keys": 5, "many": 20, "wait": True, "seed": seed}
    old = [before.worker().started() for _ in range(2)]
    old_client = before.client(name="old", **plan).started()
    await before.some_more(old_client, 60)

    assert NEWER in migrate(today, storage_url)
    new = [today.worker().started()]
    new_client = today.client(name="new", **plan).started()
    await today.some_more(new_client, 60)

    stop(old[0])  # the deployment goes on,
    new.append(today.worker().started())
    await today.some_more(new_client, 60)
    stop(new[0])  # and is rolled back
    old.append(before.worker().started())
    for client in (old_client, new_client):
        client.done(60)
    await today.drained()

    verdict = await today.verdict(undisturbed=True)
    report("two commits on one storage", tried=2, **verdict.figures)
    assert verdict.text == ""
    assert verdict.answers == {"acknowledged"}
    ran = {(run.pid in {each.pid for each in old}, run.token.startswith("old")) for run in verdict.history.runs}
    assert len(ran) == 4, "each code must run jobs of both clients"


async def test_the_older_code_opens_the_newer_storage_and_leaves_its_migration_alone(
    today: Load, before: Load, storage_url: str
) -> None:
    assert NEWER in migrate(today, storage_url)
    assert NEWER not in migrate(before, storage_url)
    client = before.client(name="old", jobs=5, kinds={"quick": 1}, wait=True)
    worker = before.worker().started()
    client.done()
    stop(worker)
    async with open_storage(storage_url) as storage:
        assert sum((await storage.counts("default"))["default"].values()) == 5


class Marks:
    """What a newer version writes with the jobs of a storage."""

    def __init__(self, url: str) -> None:
        self._file = Path(url.removeprefix("sqlite://")) if url.startswith("sqlite:") else None
        self._schema = PostgresSchema(url, "jobq")

    async def __aenter__(self) -> Marks:
        if self._file is None:
            await self._schema.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._schema.close()

    async def write(self, jobs: Collection[UUID]) -> None:
        """Mark jobs wherever they wait."""
        if self._file is None:
            await mark_on_postgres(self._schema, jobs)
        else:
            mark_on_sqlite(self._file, jobs)

    async def read(self) -> set[UUID]:
        """Return the jobs that still have their marks."""
        return await marked_on_postgres(self._schema) if self._file is None else marked_on_sqlite(self._file)


async def test_the_older_code_carries_what_the_newer_wrote_with_a_job(
    today: Load, before: Load, storage_url: str
) -> None:
    migrate(today, storage_url)
    async with JobQueueClient(storage_url) as client, Marks(storage_url) as marks:
        run = await client.add_many([quick("a"), flaky("b", 2)])  # completes; fails twice and is retried
        late = await client.add(quick("c"), delay=0.5)
        asked = await client.add(quick("d"), delay=3600)
        resting = await client.add(quick("e"), delay=3600)
        jobs = [handle.id for handle in (*run, late, asked, resting)]
        await marks.write(jobs)

        worker = before.worker().started()
        for handle in (*run, late):
            await handle.result(timeout=30)
        control = before.python("-c", CONTROL, storage_url, str(asked.id), str(resting.id))
        assert control.wait() == 0, control.output
        stop(worker)

        states = [status.state for status in await client.storage.get_status(jobs) if status]
        assert states == [JobState.COMPLETED] * 3 + [JobState.ABORTED, JobState.DISABLED]
        assert await marks.read() == set(jobs)
