"""Read the tables of a storage directly, all at one moment, and the storage's own counts of jobs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from typing import Any

import psycopg
from psycopg import sql
from tables import Kept

from jobq_core import open_storage
from jobq_core.states import JobState
from jobq_core.storage import QueueStorage
from jobq_storage_postgres.dsn import split

POSTGRES = (
    "SELECT id, queue, unique_key FROM {}.job",
    "SELECT id, state FROM {}.job_state",
    "SELECT DISTINCT job FROM {}.attempt",
    "SELECT queue, key, job FROM {}.unique_key",
)
SQLITE = (
    "SELECT n, queue, unique_key FROM jobq_job LEFT JOIN jobq_life USING (n)",
    "SELECT n, state FROM jobq_life",
    "SELECT DISTINCT n FROM jobq_attempt WHERE number > 0",
    "SELECT queue, unique_key, n FROM jobq_unique_key WHERE until IS NULL",
)
"""The same four queries for each storage: added jobs, states, jobs with failed runs, holders of unique keys."""


async def kept_in(url: str) -> Kept:
    """Read the tables of a storage and ask it for its counts.

    The tables are one snapshot, so workers may run meanwhile; the counts are read before it.
    """
    async with open_storage(url) as storage:
        counts = await counts_of(storage)
    return await asyncio.to_thread(_sqlite if url.startswith("sqlite:") else _postgres, url, counts)


async def counts_of(storage: QueueStorage) -> list[Counter[tuple[str, JobState]]]:
    """Return the storage's counts of all queues at once, and of each of these queues one by one."""
    at_once, one_by_one = await storage.counts(), {}
    for queue in at_once:
        one_by_one |= await storage.counts(queue)
    return [
        +Counter({(queue, state): jobs for queue, states in counts.items() for state, jobs in states.items()})
        for counts in (at_once, one_by_one)
    ]


def _postgres(url: str, counts: list[Counter[tuple[str, JobState]]]) -> Kept:
    bare, options = split(url)
    schema = sql.Identifier(options.get("schema", "jobq"))
    # No prepared statements: the connection may pass through a pooler.
    with psycopg.connect(bare, prepare_threshold=None) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        tables = [connection.execute(sql.SQL(query).format(schema)).fetchall() for query in POSTGRES]
    return _kept(counts, *tables)


def _sqlite(url: str, counts: list[Counter[tuple[str, JobState]]]) -> Kept:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        jobs, places, failed, keys = [connection.execute(query).fetchall() for query in SQLITE]
    return _kept(counts, jobs, places, failed, keys)


def _kept(counts: list[Counter[tuple[str, JobState]]], jobs: Any, places: Any, failed: Any, keys: Any) -> Kept:
    return Kept(
        counts=counts,
        jobs={job: None if key is None else (queue, key) for job, queue, key in jobs},
        places=[(job, JobState(state)) for job, state in places],
        failed={job for (job,) in failed},
        keys=[(job, (queue, key)) for queue, key, job in keys],
    )
