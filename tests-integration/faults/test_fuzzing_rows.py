"""Hand-edited rows, with any JSON, text or number that the column accepts: they are read, and their jobs run.

Each edited row can be read, its job ends, and the other jobs are not affected.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
from bad_jobs import sound
from fuzzing.values import plain
from fuzzing.verdicts import try_all
from hypothesis import strategies as st
from scaling import Scale
from test_bad_input import write

from jobq_client import JobQueueClient
from jobq_core import JobRecord, JobState, open_storage
from jobq_core.storage import UNFIT_ARGUMENTS
from jobq_worker import JobQueueWorker

documents = st.one_of(
    plain.map(lambda value: json.dumps(value, ensure_ascii=True)),
    st.sampled_from(["1e999", "[" * 500 + "]" * 500, '"\\ud800"', '{"number": 1, "number": 2}']),
    st.fixed_dictionaries({"number": st.one_of(st.integers(), st.floats(), st.none(), st.text())}).map(json.dumps),
    st.fixed_dictionaries(
        {"base": st.one_of(st.floats(), st.text(max_size=3)), "factor": st.floats(), "jitter": st.booleans()}
    ).map(json.dumps),
)  # fmt: skip
numbers = st.one_of(st.floats(), st.floats(-1, 1))
whole = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-10, 10))
COLUMNS: dict[str, dict[tuple[str, str], st.SearchStrategy[Any]]] = {
    "sqlite": {
        ("jobq_job", "arguments"): st.one_of(st.binary(max_size=30), documents.map(str.encode)),
        ("jobq_job", "backoff"): st.one_of(st.binary(max_size=30), documents.map(str.encode)),
        ("jobq_job", "tags"): st.one_of(documents, st.text(st.characters(codec="utf-8"), max_size=9)),
        ("jobq_job", "timeout"): numbers.filter(lambda value: value == value),
        ("jobq_job", "deadline"): whole,
    },
    "postgres": {
        ("job", "arguments"): documents,
        ("job", "backoff"): documents,
        ("job", "timeout"): numbers.map(str),
        ("job", "deadline"): st.sampled_from(["infinity", "-infinity", "4713-01-01 BC", "200000-01-01", "2200-01-01"]),
        ("job", "tags"): st.sampled_from(["{}", "{NULL}", '{"",""}', "{{a,b},{c,d}}", "[5:6]={a,b}"]),
    },
}
REFUSALS = (psycopg.DataError, psycopg.IntegrityError, sqlite3.IntegrityError, sqlite3.OperationalError)
"""The errors with which the databases refuse a value."""
AT_ONCE = 25
"""Rows edited in one example; a worker runs them together with unedited ones."""


async def run(url: str, altered: list[tuple[tuple[str, str], Any]]) -> int:
    """Edit rows, read them, and let a worker run them; return the number of edits that the database accepted."""
    written = 0
    async with JobQueueClient(url) as client:
        await client.clear()
        bad = await client.add_many([sound(number) for number in range(len(altered))], max_attempts=1)
        good = await client.add_many([sound(number) for number in range(3)])
        for handle, ((table, column), value) in zip(bad, altered, strict=True):
            with contextlib.suppress(*REFUSALS):
                await asyncio.to_thread(write, url, table, column, value, handle.id)
                written += 1
            record = await client.get(handle)
            assert isinstance(record, JobRecord)
            assert repr(record)
        assert len((await client.find(limit=1000)).jobs) == len(bad) + len(good)
        async with JobQueueWorker(url, jobs=[sound], concurrency=4) as worker:
            assert await asyncio.gather(*(client.wait_for(each, timeout=30) for each in good)) == [0, 1, 2]
            async with asyncio.timeout(30):
                while not all([await at_rest(client, handle.id) for handle in bad]):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert not worker.health().storage_failing
        for handle, change in zip(bad, altered, strict=True):
            record = await client.get(handle)
            assert record is not None
            assert record.state in (JobState.COMPLETED, JobState.FAILED, JobState.BLOCKED), (change, record)
            assert record.error is None or record.error.message, change
            assert record.state is not JobState.BLOCKED or record.reason == UNFIT_ARGUMENTS, (change, record)
    return written


async def at_rest(client: JobQueueClient, job: UUID) -> bool:
    """Whether a job has ended, or waits for a worker whose declaration takes its arguments."""
    record = await client.get(job)
    return record is not None and (record.finished or record.state is JobState.BLOCKED)


def test_hand_edited_rows_are_read_and_their_jobs_end_or_wait_visibly(
    storage_url: str, seed: int, scale: Scale, report: Callable[..., None]
) -> None:
    kind = "sqlite" if storage_url.startswith("sqlite") else "postgres"
    columns = COLUMNS[kind]
    change = st.sampled_from(sorted(columns)).flatmap(lambda place: st.tuples(st.just(place), columns[place]))
    rows = 0
    with asyncio.Runner() as runner:
        runner.run(open_storage(storage_url).migrate())

        def check(altered: list[tuple[tuple[str, str], Any]]) -> None:
            nonlocal rows
            rows += runner.run(asyncio.wait_for(run(storage_url, altered), 90))

        try_all(
            st.lists(change, min_size=AT_ONCE // 2, max_size=AT_ONCE), check, count=scale.times(8, least=2), seed=seed
        )
    assert rows > 0
    report(f"hand-edited rows ({kind})", tried=rows, added=rows)
