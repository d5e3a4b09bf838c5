"""Statements are prepared by their names, so no two may have the same."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter

import psycopg
import pytest

import jobq_storage_postgres
from jobq_core.storage import bucket_of
from jobq_core.testing import add_job, claim_one, new_job, register_worker
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.protocol import Statement
from jobq_storage_postgres.sql import Statements


def test_each_statement_has_a_name_of_its_own() -> None:
    modules = [
        importlib.import_module(f"jobq_storage_postgres.{found.name}")
        for found in pkgutil.iter_modules(jobq_storage_postgres.__path__)
        if not found.ispkg
    ]
    found = {id(each): each for module in modules for each in vars(module).values() if isinstance(each, Statement)}
    names = Counter([each.name for each in found.values()] + list(Statements("jobq")))
    assert found
    assert not [name for name, count in names.items() if count > 1]


async def test_a_run_begins_on_a_connection_on_which_a_transaction_began(
    postgres_dsn: str, postgres_schema: str
) -> None:
    storage = PostgresQueueStorage(postgres_dsn, schema=postgres_schema, pool_size=1)
    await storage.migrate()
    async with storage:
        worker = await register_worker(storage)
        other = await add_job(storage, queue="other")
        job = await add_job(storage)
        await storage.abort([other])
        run = await claim_one(storage, worker)
        assert await storage.mark_started(worker.id, [(job, run.lease)]) == [True]
        assert [change.asked for change in await storage.abort([job])] == [True]


async def test_many_jobs_are_acknowledged_though_the_statistics_cannot_be_updated(
    postgres_dsn: str, postgres_schema: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("jobq_storage_postgres.adding.BULK", 2)
    storage = PostgresQueueStorage(postgres_dsn, schema=postgres_schema)
    await storage.migrate()
    async with storage:
        # What a statement_timeout in the role's settings, or an operator, does to it.
        storage._engine.statements._made["analyze"] = Statement(
            "analyze", "DO $$ BEGIN RAISE EXCEPTION 'cancelled' USING ERRCODE = 'query_canceled'; END $$"
        )
        jobs = [new_job() for _ in range(3)]
        assert [added.created for added in await storage.add(jobs)] == [True] * 3
        assert None not in await storage.get([job.id for job in jobs])
    assert "could not update the planner's statistics" in caplog.text


def test_no_file_is_read_after_the_storage_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    statements = Statements("jobq")
    names = list(statements)

    def refuse(*_: object, **__: object) -> str:
        raise FileNotFoundError("the release was removed")

    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    monkeypatch.setattr("pathlib.Path.open", refuse)
    assert [statements[name].name for name in names] == names


async def test_the_buckets_of_durations_are_those_of_the_contract(postgres_dsn: str, empty_schema: str) -> None:
    seconds = [0.0, -5.0, 0.001, 0.0015, 0.002, 0.003, 1.0, 59.999, 3600.0, 86_400.0, 1e7, 1e12]
    query = f"SELECT {empty_schema}.bucket(make_interval(secs => s)) FROM unnest(%s::float8[]) AS s"
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
        rows = await (await connection.execute(query.encode(), (seconds,))).fetchall()
    assert [row[0] for row in rows] == [bucket_of(each) for each in seconds]
