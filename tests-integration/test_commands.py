"""The commands as users type them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from jobq_client import JobQueueClient
from jobq_core import JobState, open_storage

JOBS = """
from jobq_core import job

@job()
async def greet(name: str) -> str:
    return f"hello {name}"
"""

ADD = """
import asyncio, json, os
from jobq_client import JobQueueClient
from my_jobs import greet

async def main():
    async with JobQueueClient(os.environ["JOBQ_STORAGE"]) as client:
        print(json.dumps(await client.wait_for(await client.add(greet("world")), timeout=60)))

asyncio.run(main())
"""


@pytest.mark.parametrize("command", ["worker", "server"])
async def test_migrate_then_serve_then_add_as_in_the_quickstart(
    storage_url: str, children: Any, tmp_path: Path, command: str
) -> None:
    (tmp_path / "my_jobs.py").write_text(JOBS)  # in the working directory, not on sys.path
    (tmp_path / "add.py").write_text(ADD)
    where = {"JOBQ_STORAGE": storage_url}
    assert children.jobq("migrate", **where).wait() == 0
    serving = children.jobq(command, "my_jobs", **where)
    serving.wait_for_line("started: 10 at a time, queues default")
    adding = children.python("add.py", **where)
    assert adding.wait() == 0, adding.output
    assert json.loads(adding.output) == "hello world"
    serving.terminate()
    assert serving.wait() == 0
    assert "stopped: 1 completed, 0 failed" in serving.output


def test_migrate_lists_the_applied_migrations_and_the_second_time_says_up_to_date(
    storage_url: str, children: Any
) -> None:
    first = children.jobq("migrate", "--storage", storage_url)
    assert first.wait() == 0
    assert all(line.startswith("applied 0") for line in first.output.splitlines())
    assert first.output
    second = children.jobq("migrate", "--storage", storage_url)
    assert second.wait() == 0
    assert second.output == "up to date"


async def test_two_migrations_at_once_apply_each_once(storage_url: str, children: Any) -> None:
    both = [children.jobq("migrate", "--storage", storage_url) for _ in range(4)]
    assert [child.wait() for child in both] == [0] * 4
    applied = [line for child in both for line in child.output.splitlines() if line != "up to date"]
    assert applied
    assert len(applied) == len(set(applied))
    async with open_storage(storage_url) as storage:
        assert await storage.counts() == {}


def test_migrate_sql_prints_sql_and_changes_nothing(storage_url: str, children: Any) -> None:
    printed = children.jobq("migrate", "--sql", "--storage", storage_url)
    assert printed.wait() == 0
    assert "CREATE TABLE" in printed.output
    done = children.jobq("migrate", "--storage", storage_url)
    assert done.wait() == 0
    assert "applied" in done.output


async def test_an_administrator_can_run_the_sql_manually_on_postgres(postgres_url: str, children: Any) -> None:
    printed = children.jobq("migrate", "--sql", "--storage", postgres_url)
    assert printed.wait() == 0
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        await connection.execute(printed.output)  # type: ignore[call-overload]
    await it_works(postgres_url, children)


async def test_an_administrator_can_run_the_sql_manually_on_sqlite(sqlite_url: str, children: Any) -> None:
    printed = children.jobq("migrate", "--sql", "--storage", sqlite_url)
    assert printed.wait() == 0
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        connection.executescript(printed.output)
    await it_works(sqlite_url, children)


async def it_works(url: str, children: Any) -> None:
    """Check that the storage has all its tables and nothing is left to migrate."""
    again = children.jobq("migrate", "--storage", url)
    assert again.wait() == 0
    assert again.output == "up to date"
    async with JobQueueClient(url) as client:
        assert (await client.counts())[JobState.PENDING] == 0


@pytest.mark.parametrize("command", ["worker", "server"])
def test_a_database_without_tables_is_reported_in_one_line(postgres_url: str, children: Any, command: str) -> None:
    child = children.jobq(command, "shop_jobs", "--storage", postgres_url)
    assert child.wait() == 1
    assert "run `jobq migrate`" in child.output
    assert "Traceback" not in child.output


@pytest.mark.parametrize("command", ["worker", "server", "migrate"])
def test_a_missing_database_is_reported_in_one_line_without_the_password(children: Any, command: str) -> None:
    modules = [] if command == "migrate" else ["shop_jobs"]
    child = children.jobq(command, *modules, "--storage", "postgresql://me:geheim@127.0.0.1:1/shop")
    assert child.wait(60) == 1
    assert "Traceback" not in child.output
    assert "127.0.0.1" in child.output
    assert "geheim" not in child.output


def test_a_password_is_not_logged(postgres_url: str, children: Any) -> None:
    assert children.jobq("migrate", "--storage", postgres_url).wait() == 0
    secret = postgres_url.replace("postgresql://postgres@", "postgresql://postgres:geheim@")
    assert secret != postgres_url
    child = children.jobq("server", "shop_jobs", "--storage", secret)
    child.wait_for_line("started")
    child.terminate()
    assert child.wait() == 0
    assert "geheim" not in child.output
