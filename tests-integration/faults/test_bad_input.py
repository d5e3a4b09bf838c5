"""Bad input from outside: hand-edited rows that a worker claims, and commands that cannot work.

The packages test what each storage, client and command refuses; this file tests them together.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any
from uuid import UUID

import psycopg
from bad_jobs import changed, sound, submitted, unknown

from jobq_client import JobHandle, JobQueueClient
from jobq_core import JobRecord, JobState, open_storage
from jobq_core.states import FINISHED
from jobq_core.storage import UNFIT_ARGUMENTS, UNKNOWN_KIND
from jobq_worker import JobQueueWorker

POISON = {
    "sqlite": [
        ("jobq_job", "arguments", b"\xff\xfe"),
        ("jobq_job", "arguments", b"{"),
        ("jobq_job", "arguments", b"[" * 5000),
        ("jobq_job", "arguments", b"null"),
        ("jobq_job", "arguments", b'{"number": 1e999}'),
        ("jobq_job", "backoff", b'{"base": "soon"}'),
        ("jobq_job", "tags", '[{"a": []}]'),
        ("jobq_job", "timeout", 0.0),
        ("jobq_job", "deadline", -(2**63)),
        ("jobq_life", "attempt", 32767),
    ],
    "postgres": [
        ("job", "arguments", "null"),
        ("job", "arguments", "[1, 2]"),
        ("job", "arguments", '{"number": "\\ud800"}'),
        ("job", "arguments", '{"number": 1e999}'),
        ("job", "backoff", '{"base": "soon"}'),
        ("job", "tags", "{NULL}"),
        ("job", "timeout", "-1"),
        ("job", "timeout", "NaN"),
        ("job", "deadline", "-infinity"),
        ("ready", "attempt", "32766"),
    ],
}


def write(url: str, table: str, column: str, value: Any, job: UUID) -> None:
    """Write into a row with plain SQL, as an untrusted program does."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            n = "(SELECT n FROM jobq_job WHERE id = ?)"
            assert file.execute(f"UPDATE {table} SET {column} = ? WHERE n = {n}", (value, job.bytes)).rowcount == 1
    else:
        with psycopg.connect(url) as database:
            query = f"UPDATE jobq.{table} SET {column} = %s WHERE id = %s"
            assert database.execute(query, (value, job)).rowcount == 1  # type: ignore[arg-type]


async def test_a_worker_that_claims_poison_rows_runs_the_other_jobs_and_reports_each_poison_row(
    migrated_url: str, report: Callable[..., None]
) -> None:
    kind = "sqlite" if migrated_url.startswith("sqlite") else "postgres"
    async with JobQueueClient(migrated_url) as client:
        poisoned = []
        for number, (table, column, value) in enumerate(POISON[kind]):
            handle = await client.add(sound(number))
            await asyncio.to_thread(write, migrated_url, table, column, value, handle.id)
            poisoned.append(handle)
        misfit, stranger = await client.add(submitted(3)), await client.add(unknown())
        fine = await client.add_many([sound(number) for number in range(100)])
        async with JobQueueWorker(migrated_url, jobs=[sound, changed], concurrency=4) as worker:
            assert await asyncio.gather(*(client.wait_for(each, timeout=30) for each in fine)) == [*range(100)]
            settled = await asyncio.gather(*(until_settled(client, handle) for handle in [*poisoned, misfit]))
            assert not worker.health().storage_failing
            record = await client.get(stranger)
            assert record is not None
            assert (record.state, record.reason) == (JobState.BLOCKED, UNKNOWN_KIND)
        columns = [column for _, column, _ in POISON[kind]]
        for record, column in zip(settled, [*columns, "arguments"], strict=True):
            # What cannot be run for its arguments waits for another worker, or fails as damaged.
            assert record.state in (JobState.COMPLETED, JobState.FAILED) or column == "arguments", record
            assert record.error is None or record.error.message
        assert settled[-1].reason == UNFIT_ARGUMENTS
        assert worker.pool_stats().total.unknown_kinds == {
            "nobody knows it": worker.pool_stats().total.unknown_kinds["nobody knows it"]
        }
        assert worker.pool_stats().total.unfit_kinds["changed"] == 1
        assert await client.size(state=JobState.PENDING) == 0
    report(
        f"poison rows ({kind})",
        tried=len(poisoned) + 2,
        added=len(poisoned) + 2 + len(fine),
        runs=worker.pool_stats().total.finished,
        lost=len(poisoned) + 1 - len(settled),
    )


async def until_settled(client: JobQueueClient, handle: JobHandle[Any]) -> JobRecord:
    """Wait until a job has ended, or waits for a worker that can take its arguments."""
    async with asyncio.timeout(30):
        while True:
            record = await client.get(handle)
            assert record is not None
            if record.state in FINISHED or record.reason == UNFIT_ARGUMENTS:
                return record
            await asyncio.sleep(0.05)


COMMANDS = [
    (["worker", "no.such.module", "--storage", "URL"], 1, "there is no module 'no.such.module'"),
    (["worker", "broken_on_import", "--storage", "URL"], 1, "the module 'broken_on_import' failed to import"),
    (["worker", "bad_jobs"], 2, "Missing option '--storage'"),
    (["worker", "bad_jobs", "--storage", "nothing://u:hidden@x"], 1, "no installed storage opens nothing://"),
    (["worker", "bad_jobs", "--storage", "URL", "--concurrency", "many"], 2, "'many' is not a valid integer"),
    (["worker", "bad_jobs", "--storage", "URL", "--lost-after", "nan"], 2, "lost_after must be more than 0 seconds"),
    (["server", "bad_jobs", "--storage", "URL", "--workers", "10000000"], 2, "not in the range"),
    (["migrate", "--storage", "postgresql://u:hidden@127.0.0.1:1/x"], 1, "PostgreSQL cannot be reached"),
    (["migrate", "--storage", "postgresql://u:hidden@db/x?pool_sise=1"], 1, "unknown option 'pool_sise'"),
    (["migrate", "--storage", "host=db password=hidden"], 1, "this is not the URL of a storage"),
    (["migrate", "--storage", "URL", "--sql", "--phase", "pre"], 2, "remove --phase"),
    (["migrate", "--storage", "sqlite:///no/such/folder/x.db"], 1, "the file cannot be opened"),
]


async def test_commands_that_cannot_work_report_the_problem(
    children: Any, sqlite_url: str, tmp_path: Any, report: Callable[..., None]
) -> None:
    (tmp_path / "broken_on_import.py").write_text("raise RuntimeError('no settings')\n")
    (tmp_path / "bad_jobs.py").write_text("from jobq_core import job\n@job()\ndef f() -> None: ...\n")
    started = [
        (children.jobq(*[sqlite_url if part == "URL" else part for part in command], JOBQ_STORAGE=""), code, said)
        for command, code, said in COMMANDS
    ]
    for child, code, said in started:
        assert child.wait(60) == code, child.output
        assert said in child.output, child.output
        assert "hidden" not in child.output
        assert child.output.splitlines()[-1].startswith(("Error: ", "RuntimeError: no settings", "\tIs the server")), (
            child.output
        )
    report("commands that cannot work", tried=len(started))


async def test_a_worker_that_cannot_open_its_storage_leaves_nothing_behind(migrated_url: str) -> None:
    storage = open_storage(migrated_url)
    async with storage:
        worker = JobQueueWorker(migrated_url, jobs=[sound])
        async with worker:
            assert len(await storage.workers()) == 1
        assert await storage.workers() == []
