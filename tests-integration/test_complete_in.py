"""`context.complete_in`: what a handler writes and its completion are one transaction."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import effects
import pytest

from jobq_client import JobQueueClient
from jobq_core import JobCompleted, JobStarted, JobState
from jobq_worker import JobQueueWorker

STATEMENTS = {"sqlite": 24, "postgresql": 11}
"""More statements than a handler runs."""


@pytest.fixture
async def client(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[JobQueueClient]:
    monkeypatch.setattr(effects, "URL", migrated_url)
    monkeypatch.setattr(effects, "ended", asyncio.Event())
    monkeypatch.setattr(effects, "goes_on", asyncio.Event())
    async with effects.connection() as connection:
        await connection.execute("CREATE TABLE effect (n INTEGER)")
        await connection.commit()
    async with JobQueueClient(migrated_url) as client:
        yield client


async def stored_effects() -> Counter[int]:
    """Return how often each handler's write is stored."""
    async with effects.connection() as connection:
        rows = await (await connection.execute("SELECT n FROM effect")).fetchall()
        return Counter(n for (n,) in rows)


async def test_a_handlers_writes_and_its_completion_are_stored_together(client: JobQueueClient) -> None:
    jobs = [effects.effect, effects.sync_effect, effects.failing_effect, effects.noop]
    async with JobQueueWorker(effects.URL, jobs=jobs) as worker:
        stream = worker.events(JobCompleted)
        handles = [
            await client.add(effects.effect(1)),
            await client.add(effects.sync_effect(2)),
            await client.add(effects.failing_effect(3)),
        ]
        assert [await client.wait_for(handle, timeout=30) for handle in handles] == ["effect 1", "effect 2", "effect 3"]
        results: set[Any] = {(await anext(stream)).result_json for _ in range(4)}
    assert results == {b'"effect 1"', b'"effect 2"', b'"effect 3"', b"null"}
    assert await stored_effects() == {1: 1, 2: 1, 3: 1}
    assert (await client.counts())[JobState.COMPLETED] == 4


async def test_a_run_whose_transaction_is_rolled_back_runs_again(client: JobQueueClient) -> None:
    async with JobQueueWorker(effects.URL, jobs=[effects.forgetful_effect]):
        handle = await client.add(effects.forgetful_effect(1))
        assert await client.wait_for(handle, timeout=30) == "effect 1"
    record = await client.get(handle)
    assert record is not None
    assert [attempt.error.message for attempt in record.attempts] == [
        "the transaction that was given to complete_in was not committed"
    ]
    assert await stored_effects() == {1: 1}


async def test_a_handler_that_goes_on_after_its_commit_is_left_alone(
    client: JobQueueClient, caplog: pytest.LogCaptureFixture
) -> None:
    async with JobQueueWorker(effects.URL, jobs=[effects.slow_effect]) as worker:
        handle = await client.add(effects.slow_effect(1))
        assert await client.wait_for(handle, timeout=30) == "effect 1"
        assert worker._session is not None
        await worker._session.monitor.check()
        effects.goes_on.set()
        async with asyncio.timeout(30):
            await effects.ended.wait()
    assert "LeaseLostError" not in caplog.text


async def test_a_run_whose_lease_is_over_cannot_complete(client: JobQueueClient) -> None:
    async with JobQueueWorker(effects.URL, jobs=[effects.late_effect]) as worker:
        stream = worker.events(JobStarted)
        handle = await client.add(effects.late_effect(1))
        await anext(stream)
        await client.delete(handle)
        error = await asyncio.to_thread(effects.late.get, timeout=30)
    assert str(handle.id) in str(error)
    assert await stored_effects() == {}


async def test_a_process_killed_at_any_statement_leaves_its_effect_exactly_once(
    client: JobQueueClient, children: Any
) -> None:
    last = STATEMENTS[effects.URL.partition(":")[0]]
    handles = [await client.add(effects.effect(n), queue=f"kill {n}") for n in range(1, last + 1)]
    program = children.python(effects.__file__, effects.URL, "1", str(last))
    assert await asyncio.to_thread(program.wait) == 0
    codes = [int(line) for line in program.output.splitlines() if line.lstrip("-").isdigit()]
    assert len(codes) == last
    assert set(codes) == {-9, 0}
    # Each statement of a run that nothing disturbs; one that lost its lease meanwhile has more of them.
    assert codes.index(0) >= 8
    queues = [f"kill {n}" for n in range(1, last + 1)]
    async with JobQueueWorker(effects.URL, jobs=[effects.effect], queues=queues, lost_after=6, heartbeat_interval=1):
        for n, handle in enumerate(handles, 1):
            assert await client.wait_for(handle, timeout=30) == f"effect {n}"
    assert await stored_effects() == dict.fromkeys(range(1, last + 1), 1)
    added = [job async for job in client.find_all(kind=effects.noop)]
    assert len(added) == last
