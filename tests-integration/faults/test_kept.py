"""The checks of a storage's tables: sound tables pass, and each kind of damage is found."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest
from history import History, check
from kept import kept_in
from load import Load
from load_jobs import quick
from wrong import Wrong

from jobq_core import open_storage
from jobq_core.records import ErrorRecord
from jobq_core.states import Ending, JobState
from jobq_core.storage import Claim, Settlement
from jobq_core.testing.helpers import register_worker

AND_WAITING = (
    "INSERT INTO jobq.waiting (id, position, since, size, priority, attempt, flags, keyed, state, queue, kind) "
    "SELECT id, position, since, size, priority, attempt, flags, keyed, 'disabled', queue, kind FROM jobq.ready"
)
AND_HELD = "INSERT INTO jobq.unique_key (job, queue, key)"
AND_COUNTED = "INSERT INTO jobq.tally (finished, queue, kind, state)"
DAMAGE = {
    "postgres": [
        (f"{AND_COUNTED} VALUES (1, 'default', 'quick', 'completed')", Wrong.MISCOUNTED),
        (f"{AND_COUNTED} VALUES (1, 'elsewhere', 'quick', 'failed')", Wrong.MISCOUNTED),
        ("DELETE FROM jobq.unique_key", Wrong.KEY_MISLAID),
        (f"{AND_HELD} SELECT id, queue, 'x' FROM jobq.outcome LIMIT 1", Wrong.KEY_MISLAID),
        (f"{AND_HELD} VALUES (gen_random_uuid(), 'default', 'y')", Wrong.KEY_MISLAID),
        ("UPDATE jobq.attempt SET job = gen_random_uuid()", Wrong.MISPLACED),
        ("DELETE FROM jobq.outcome WHERE state = 'failed'", Wrong.MISPLACED),
        (AND_WAITING, Wrong.MISPLACED),
        ("DELETE FROM jobq.job WHERE unique_key IS NULL", Wrong.MISPLACED),
    ],
    "sqlite": [
        ("UPDATE jobq_attempt SET n = 1000", Wrong.MISPLACED),
        ("DELETE FROM jobq_life WHERE state = 'pending'", Wrong.MISPLACED),
        ("DELETE FROM jobq_job", Wrong.MISPLACED),
    ],
}


@pytest.mark.parametrize("kind", DAMAGE)
async def test_damage_to_the_tables_is_found(
    kind: str, load_on: Callable[..., Load], request: pytest.FixtureRequest
) -> None:
    url = str(request.getfixturevalue(f"{kind}_url"))
    await open_storage(url).migrate()
    load = load_on(url)
    await jobs_in_several_states(load)
    assert (before := await found(load)) == Counter()
    for statement, wrong in DAMAGE[kind]:
        await asyncio.to_thread(run, url, statement)
        after = await found(load)
        assert after[wrong] > before[wrong], statement
        before = after


async def jobs_in_several_states(load: Load) -> None:
    """Make two completed jobs, one failed job, and one pending job with a unique key."""
    await load.add([quick(token=token) for token in ("a", "b", "c")])
    async with open_storage(load.url) as storage:
        worker = await register_worker(storage)
        claimed = (await storage.settle_and_claim(worker.id, (), Claim.of(*worker.queues, limit=3))).claimed
        ends = [(Ending.COMPLETE, None), (Ending.COMPLETE, None), (Ending.FAIL, ErrorRecord(type="E", message="no"))]
        settlements = [
            Settlement(job.id, job.lease, ending, error=error)
            for job, (ending, error) in zip(claimed, ends, strict=True)
        ]
        settled = (await storage.settle_and_claim(worker.id, settlements)).settled
    assert Counter(settled) == {JobState.COMPLETED: 2, JobState.FAILED: 1}
    await load.add([quick(token="d")], unique="k")


async def found(load: Load) -> Counter[Wrong]:
    """Count the violations in the tables by name."""
    kept, finals = await kept_in(load.url), await load.finals()
    return Counter(violation.wrong for violation in check(History(), finals, kept=kept, drained=False))


def run(url: str, statement: str) -> None:
    """Change the tables directly, without jobq."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            changed = file.execute(statement).rowcount
    else:
        with psycopg.connect(url) as connection:
            changed = connection.execute(statement.encode()).rowcount
    assert changed, statement
