"""Hand-edited rows of every table, for jobs in every state: the jobs are read, settled, rescued, retried and run.

Calls on an edited row end in an answer or a clear error, and the jobs of the other rows are not affected.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any
from uuid import UUID, uuid4

import attrs
import psycopg
from bad_jobs import Anything
from fuzzing.verdicts import try_all
from hypothesis import strategies as st
from scaling import Scale
from test_fuzzing_rows import documents, numbers, whole

from jobq_client import JobHandle, JobQueueClient
from jobq_core import JobQueueError, JobRecord, JobState, open_storage
from jobq_core.records import ErrorRecord
from jobq_core.states import Ending
from jobq_core.storage import Claim, ClaimedJob, Settlement
from jobq_core.testing.helpers import register_worker
from jobq_worker import JobQueueWorker

texts = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9), st.just("x" * 100_000), st.none()
)
types = st.one_of(
    texts,
    st.sampled_from(
        [
            *("SystemExit", "KeyboardInterrupt", "StopIteration", "ExceptionGroup", "UnicodeDecodeError", "OSError"),
            *("builtins.KeyError", "open", "asyncio.CancelledError", "jobq_core.errors.JobNotFoundError", "a.b.c", "."),
        ]
    ),
)
small = st.one_of(st.integers(-(2**15), 2**15 - 1), st.sampled_from([-(2**15), -1, 0, 2**15 - 1]))
switches = st.sampled_from(["true", "false"])
workers = st.one_of(st.uuids(), st.none())
moments = st.sampled_from(["infinity", "-infinity", "4713-01-01 BC", "200000-01-01", "2200-01-01", "1970-01-01", None])
progress = {"percent": numbers.map(str), "message": texts, "details": documents}
error = {"error_type": types, "error_message": texts, "error_traceback": texts}
times = {"run_at": moments, "started_at": moments}
token = {"attempt": small, "lease": st.one_of(whole, st.none()), "worker": workers, **times, **progress}
line = {"position": whole, "priority": small, "keyed": switches, "reason": texts, "settled": texts}
binary = st.one_of(st.binary(max_size=30), documents.map(str.encode), st.none())
number = st.one_of(whole, st.none())
ids = st.one_of(st.uuids().map(lambda worker: worker.bytes), st.none())
life = {
    **dict.fromkeys(("run_at", "lease", "started_lease", "started_at", "finished_at", "error_lease"), number),
    "position": whole,
    "attempt": small,
    "urgency": st.integers(-9, 9),
    "reason": texts,
    "worker": ids,
    "request": st.sampled_from(["abort", "disable", None]),
    "state": st.sampled_from(["pending", "completed", "scheduled", "lost", ""]),
    "settled": st.sampled_from(["completed", "failed", "pending", "processing", "lost", None]),
    "unique_key": texts,
    "percent": numbers.filter(lambda value: value == value),
    "message": texts,
    "details": binary,
    "result": binary,
}
TABLES: dict[str, dict[tuple[str, str, str], dict[str, st.SearchStrategy[Any]]]] = {
    "postgres": {
        ("completed", "outcome", "id"): {"result": documents, "finished_at": moments, **token, **error},
        ("failed", "outcome", "id"): {"result": documents, "settled": texts, "reason": texts, **token, **error},
        ("failed", "attempt", "job"): {
            "number": small,
            "lease": whole,
            "worker": workers,
            "started_at": moments,
            "finished_at": moments,
            **error,
        },
        ("held", "running", "id"): {
            "priority": small,
            "keyed": switches,
            "begun": switches,
            "request": st.sampled_from(["abort", "disable"]),
            **token,
        },
        ("waiting", "waiting", "id"): {
            "state": st.sampled_from(["scheduled", "blocked", "disabled"]),
            **line,
            **token,
            **error,
        },
        ("ready", "ready", "id"): {**line, **token},
        ("ready", "unique_key", "job"): {"job": st.uuids(), "queue": texts, "key": texts},
        ("held", "unique_key", "job"): {"job": st.uuids(), "queue": texts, "key": texts},
    },
    "sqlite": {
        **{(state, "jobq_life", "n"): life for state in ("completed", "failed", "held", "waiting", "ready")},
        ("failed", "jobq_attempt", "n"): {
            "lease": whole,
            "number": whole,
            "worker": ids,
            "started_at": whole,
            "finished_at": whole,
            "type": types,
            "message": texts,
            "traceback": texts,
        },
    },
}
"""Values for the columns of each table, by the state of the job, the table and its key."""
AT_ONCE = 30
"""Rows edited in one example, next to unedited ones."""
GOOD = 2
"""Number of unedited jobs in each state."""
ENDINGS = (Ending.COMPLETE, Ending.RETRY, Ending.RELEASE, Ending.FAIL, Ending.ABORT, Ending.DISABLE)
REFUSALS = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded, sqlite3.IntegrityError)
"""The errors with which the databases refuse a value."""
WRONG = ErrorRecord(type="ValueError", message="on purpose")


@attrs.frozen
class Change:
    """An edit: one value in one row of a job in a given state."""

    state: str
    table: str
    key: str
    column: str
    value: Any


def changes_of(kind: str) -> st.SearchStrategy[Change]:
    """Return a strategy for edits in any table of a database."""
    places = [(*place, column) for place, columns in TABLES[kind].items() for column in columns]
    return st.sampled_from(places).flatmap(
        lambda place: st.builds(Change, *map(st.just, place), TABLES[kind][place[:3]][place[3]])
    )


def write(url: str, change: Change, job: UUID) -> None:
    """Edit a row with plain SQL; the database may refuse the value."""
    if url.startswith("sqlite"):
        where = "(SELECT n FROM jobq_job WHERE id = ?)"
        query = f"UPDATE {change.table} SET {change.column} = ? WHERE n = {where}"
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)) as file, file:
            assert file.execute(query, (change.value, job.bytes)).rowcount == 1
    else:
        value = None if change.value is None else str(change.value)
        with psycopg.connect(url) as database:
            query = f"UPDATE jobq.{change.table} SET {change.column} = %s WHERE {change.key} = %s"
            assert database.execute(query.encode(), (value, job)).rowcount == 1


async def understood(call: Coroutine[Any, Any, Any], change: Change) -> None:
    """Await a call that must end in an answer, in a jobq error with a message, or in the job's own error."""
    try:
        said = repr(await call)
    except JobQueueError as error:
        said = str(error)
    except Exception as error:
        if not any(note.startswith("Job ") for note in getattr(error, "__notes__", ())):
            raise
        said = repr(error)
    assert said.strip(), change


class Jobs:
    """Jobs in all states: one for each edit, and unedited ones."""

    def __init__(self, client: JobQueueClient, changes: list[Change]) -> None:
        self.client = client
        self.changes = changes
        self.bad: dict[int, JobHandle[Any]] = {}
        self.good: dict[str, list[JobHandle[Any]]] = {}
        self.held: list[ClaimedJob] = []
        self._name = uuid4().hex

    @property
    def all(self) -> set[UUID]:
        """The ids of all jobs."""
        return {handle.id for handles in (self.bad.values(), *self.good.values()) for handle in handles}

    async def add(self, state: str, **options: Any) -> None:
        """Add the jobs that will enter a state."""
        numbers = [number for number, change in enumerate(self.changes) if change.state == state]
        values = [*numbers, *(f"{state} {number}" for number in range(GOOD))]
        handles = await asyncio.gather(
            *(self.client.add(Anything(value=value), unique=f"{self._name} {value}", **options) for value in values)
        )
        self.bad |= dict(zip(numbers, handles, strict=False))
        self.good[state] = [*handles[len(numbers) :]]

    async def claim(self, worker: UUID) -> list[ClaimedJob]:
        """Claim all available jobs."""
        return (await self.client.storage.settle_and_claim(worker, (), Claim.of("default", limit=1000))).claimed

    async def make(self, worker: UUID) -> None:
        """Bring the jobs into their states; this worker holds the running ones."""
        for state, ending in (("completed", Ending.COMPLETE), ("failed", Ending.FAIL)):
            await self.add(state)
            ends = [
                Settlement(job.id, job.lease, ending, b"1", error=WRONG if ending is Ending.FAIL else None)
                for job in await self.claim(worker)
            ]
            await self.client.storage.settle_and_claim(worker, ends)
        await self.add("held")
        self.held = await self.claim(worker)
        await self.add("ready")
        await self.add("waiting", delay=3600)

    async def settle(self, worker: UUID) -> None:
        """Settle every other running job with all endings; the settlements of unedited jobs take effect."""
        sound = {handle.id for handle in self.good["held"][1:]}
        touched = {handle.id for handle in self.bad.values()}
        half = [job for job in self.held if job.id in touched][::2]
        ends = [
            Settlement(job.id, job.lease, ENDINGS[number % len(ENDINGS)], error=WRONG)
            for number, job in enumerate(half)
        ]
        ends += [Settlement(job.id, job.lease, Ending.COMPLETE, b"7") for job in self.held if job.id in sound]
        settled = (await self.client.storage.settle_and_claim(worker, ends)).settled
        assert settled[len(half) :] == [JobState.COMPLETED] * len(sound)


async def run(url: str, changes: list[Change]) -> int:
    """Edit rows, and perform all operations on edited and unedited jobs; return the number of accepted edits."""
    written = 0
    async with JobQueueClient(url) as client:
        storage = client.storage
        await client.clear()
        holder = (await register_worker(storage)).id
        jobs = Jobs(client, changes)
        await jobs.make(holder)
        at_rest = [handle.id for state in ("completed", "failed", "waiting") for handle in jobs.good[state]]
        before = await storage.get(at_rest)
        for number, handle in jobs.bad.items():
            with contextlib.suppress(*REFUSALS):
                await asyncio.to_thread(write, url, changes[number], handle.id)
                written += 1
        await look(client, jobs)
        await jobs.settle(holder)
        await storage.deregister(holder)
        await storage.rescue()
        await storage.promote()
        await look(client, jobs)
        assert await storage.get(at_rest) == before
        for number, handle in jobs.bad.items():
            await understood(client.retry(handle), changes[number])
        async with JobQueueWorker(url, jobs=[Anything], concurrency=4) as worker:
            for state in ("ready", "held"):
                for number, handle in enumerate(jobs.good[state]):
                    wanted = 7 if (state, number) == ("held", 1) else f"{state} {number}"
                    assert await client.wait_for(handle, timeout=30) == wanted
            await storage.rescue()
            await storage.promote()
            await storage.prune()
            assert not worker.health().storage_failing
        await look(client, jobs)
        assert await storage.get(at_rest) == before
    return written


async def look(client: JobQueueClient, jobs: Jobs) -> None:
    """Read all jobs in each way; a job that seems to have ended long ago may be gone."""
    pruned = {handle.id for number, handle in jobs.bad.items() if jobs.changes[number].column == "finished_at"}
    found = {record.id for record in (await client.find(limit=1000)).jobs}
    assert jobs.all - pruned <= found <= jobs.all
    assert (await client.counts()).keys() == set(JobState)
    for number, handle in jobs.bad.items():
        change = jobs.changes[number]
        record = await client.get(handle)
        if record is None and handle.id in pruned:
            continue
        assert isinstance(record, JobRecord), change
        assert repr(record)
        await understood(client.wait_for(handle, timeout=0), change)
        await understood(client.progress_of(handle), change)
        await understood(client.output_for(Anything(value=number)), change)
    together = [
        understood(client.wait_for(handle.id, timeout=0.05), jobs.changes[number])
        for number, handle in jobs.bad.items()
    ]
    await asyncio.gather(*together)


def test_hand_edited_rows_of_all_tables_affect_no_other_job(
    storage_url: str, seed: int, scale: Scale, report: Callable[..., None]
) -> None:
    kind = "sqlite" if storage_url.startswith("sqlite") else "postgres"
    rows = 0
    with asyncio.Runner() as runner:
        runner.run(open_storage(storage_url).migrate())

        def check(changes: list[Change]) -> None:
            nonlocal rows
            rows += runner.run(asyncio.wait_for(run(storage_url, changes), 90))

        drawn = st.lists(changes_of(kind), min_size=AT_ONCE // 2, max_size=AT_ONCE)
        try_all(drawn, check, count=scale.times(5, least=1), seed=seed)
    assert rows > 0
    report(f"hand-edited rows of all tables ({kind})", tried=rows, added=rows)
