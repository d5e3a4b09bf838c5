"""Finding jobs among many that do not match: the same jobs as by looking at each, at a cost that does not grow."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from jobq_core.records import JobSummary
from jobq_core.states import Ending, JobState
from jobq_core.storage import JobFilter, NewJob
from jobq_core.testing import ManualClock, claim, new_job, register_worker, settle
from jobq_storage_sqlite import SqliteQueueStorage, candidates, finding
from jobq_storage_sqlite.adding import add
from jobq_storage_sqlite.pruning import prune_some
from jobq_storage_sqlite.spans import Span, span_of, start_of
from jobq_storage_sqlite.transaction import Transaction

HOUR_MS = 3_600_000
DRAW = random.Random(7)


def job_at(milliseconds: int, number: int, **options: object) -> NewJob:
    """Return a job whose id was made at this time."""
    made = UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | number)
    return new_job(id=made, **options)


async def add_some(storage: SqliteQueueStorage, count: int) -> None:
    """Add jobs of two common and two rare kinds, queues and tags, over ten hours."""
    jobs = [
        job_at(
            10 * HOUR_MS * number // count,
            number,
            queue="rare" if number % 97 == 5 else "default",
            kind="seldom" if number % 89 == 3 else f"kind{number % 2}",
            tags=(f"customer:{number // 7}", "all"),
        )
        for number in range(count)
    ]
    DRAW.shuffle(jobs)
    await storage.add(jobs)


FILTERS = [
    JobFilter(),
    JobFilter(queue="rare"),
    JobFilter(queue="nothing"),
    JobFilter(kinds=("seldom",)),
    JobFilter(kinds=("seldom", "kind1", "none")),
    JobFilter(kinds=tuple(f"kind{number}" for number in range(1, 40))),
    JobFilter(queue="rare", kinds=("kind0",)),
    JobFilter(tags=("customer:3",)),
    JobFilter(tags=("all", "customer:5"), kinds=("kind0",)),
    JobFilter(states=frozenset({JobState.COMPLETED}), queue="rare"),
    JobFilter(states=frozenset({JobState.FAILED})),
    JobFilter(states=frozenset({JobState.FAILED, JobState.ABORTED}), kinds=("kind1",)),
    JobFilter(states=frozenset({JobState.ABORTED, JobState.PENDING}), queue="default"),
]


def matches(job: JobSummary, filter: JobFilter) -> bool:
    return (
        filter.queue in (None, job.queue)
        and (not filter.kinds or job.kind in filter.kinds)
        and (not filter.states or job.state in filter.states)
        and set(filter.tags) <= set(job.tags)
    )


async def test_a_page_that_looked_through_many_spans_is_short(
    storage: SqliteQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "PAGE_SPANS", 10)
    await add_some(storage, 200)
    everything = (await storage.find(JobFilter(), limit=1_000)).jobs
    for asked in FILTERS:
        found: list[JobSummary] = []
        sizes: list[int] = []
        after = None
        while not sizes or after is not None:
            page = await storage.find(asked, after=after, limit=150)
            assert after is None or page.cursor is None or page.cursor < after
            after = page.cursor
            found += page.jobs
            sizes.append(len(page.jobs))
        assert found == [job for job in everything if matches(job, asked)], asked
        if asked.tags == ("all", "customer:5"):
            assert len(sizes) == 1
        if asked.kinds == ("seldom", "kind1", "none"):
            assert len(sizes) > 2


async def test_a_count_that_would_read_too_many_jobs_is_unknown(
    storage: SqliteQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_some(storage, 200)
    common, rare = JobFilter(kinds=("kind1",)), JobFilter(kinds=("seldom",))
    of_queue = JobFilter(
        queue="default", since=datetime(1970, 1, 1, tzinfo=UTC), until=datetime(2999, 1, 1, tzinfo=UTC)
    )
    counts = [await storage.count(asked) for asked in (common, rare, of_queue)]
    assert None not in counts
    monkeypatch.setattr(finding, "READ", 150)
    monkeypatch.setattr(candidates, "SPANS", (8, 16))
    assert [await storage.count(asked) for asked in (common, rare, of_queue)] == [None, counts[1], None]


@pytest.mark.parametrize(
    ("few", "many"), [(-1, -1), (5000, 5000), (-1, 5000)], ids=["by spans", "by states", "by states behind the newest"]
)
async def test_each_filter_finds_the_jobs_that_match_the_newest_first(
    storage: SqliteQueueStorage, few: int, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "FEW", few)
    monkeypatch.setattr(candidates, "MANY", many)
    monkeypatch.setattr(candidates, "NEWEST", 100)
    worker = await register_worker(storage, queues=("default", "rare"))
    await add_some(storage, 600)
    for number, job in enumerate(await claim(storage, worker, 400)):
        if number % 3:
            await settle(storage, worker, job)
        else:
            await storage.abort([job.id])
            await settle(storage, worker, job, Ending.RETRY if number % 2 else Ending.COMPLETE)
    everything = (await storage.find(JobFilter(), limit=10_000)).jobs
    assert [job.id for job in everything] == sorted([job.id for job in everything], reverse=True)
    assert len(everything) == 600
    for asked in FILTERS:
        wanted = [job for job in everything if matches(job, asked)]
        found: list[JobSummary] = []
        after = None
        while True:
            page = await storage.find(asked, after=after, limit=17)
            found += page.jobs
            after = page.cursor
            if after is None:
                break
            assert len(page.jobs) == 17
        assert found == wanted, asked
        assert await storage.count(asked) == len(wanted), asked


async def test_jobs_are_found_by_the_time_of_adding_whatever_their_ids(path: Path) -> None:
    clock = ManualClock(start=400 * HOUR_MS / 1000)
    storage = SqliteQueueStorage(path)
    storage._clock = storage._uptime = clock
    async with storage:
        hours: list[float] = []
        for hour in range(6):
            hours.append(clock())
            now = round(clock() * 1000)
            await storage.add(
                [
                    job_at(now, 10 * hour),
                    job_at(now - 3 * HOUR_MS, 10 * hour + 1),  # of a handler that had run for long
                    job_at(now + 40_000, 10 * hour + 2),  # of a machine whose clock is ahead
                    new_job(id=UUID(int=DRAW.getrandbits(128))),
                ]
            )
            clock.advance(3600)
        everything = (await storage.find(JobFilter())).jobs
        assert len(everything) == 24
        for first in (None, *hours):
            for second in (None, *hours):
                since = None if first is None else datetime.fromtimestamp(first, UTC)
                until = None if second is None else datetime.fromtimestamp(second, UTC)
                for asked in (
                    JobFilter(since=since, until=until),
                    JobFilter(since=since, until=until, queue="default", kinds=("noop",)),
                ):
                    wanted = [
                        job
                        for job in everything
                        if (since is None or job.created_at >= since) and (until is None or job.created_at < until)
                    ]
                    assert (await storage.find(asked)).jobs == wanted
                    assert await storage.count(asked) == len(wanted)
                    if len(wanted) > 1:
                        page = await storage.find(asked, limit=1)
                        assert (await storage.find(asked, after=page.cursor)).jobs == wanted[1:]


async def steps_of(storage: SqliteQueueStorage, filter: JobFilter) -> int:
    """Return the steps of SQLite's machine that finding takes, in hundreds."""
    assert storage._opened is not None
    connection = storage._opened.reader._connection
    assert connection is not None
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    await connection.set_progress_handler(step, 100)
    await storage.find(filter)
    return steps


async def test_what_is_rare_costs_the_same_however_much_else_there_is(path: Path) -> None:
    wanted = JobFilter(kinds=("needle",))
    async with SqliteQueueStorage(path) as storage:
        await storage.find(wanted)  # connects
        await storage.add([job_at(HOUR_MS, 1, kind="needle", queue="hay"), job_at(9 * HOUR_MS, 2, kind="needle")])
        alone = await steps_of(storage, wanted)
        await add_some(storage, 5000)
        assert await steps_of(storage, wanted) <= alone + 10
        assert [job.id.int & 3 for job in (await storage.find(wanted)).jobs] == [2, 1]


def test_spans_are_in_the_order_of_the_ids() -> None:
    ids = sorted([UUID(int=DRAW.getrandbits(128)) for _ in range(100)] + [UUID(int=0), UUID(int=2**128 - 1)])
    assert [span_of(each) for each in ids] == sorted(span_of(each) for each in ids)
    for each in ids:
        assert start_of(span_of(each)) <= each.bytes < start_of(span_of(each) + 1)


async def test_the_spans_of_jobs_that_are_gone_are_pruned(storage: SqliteQueueStorage) -> None:
    await storage.add([job_at(HOUR_MS, 1), job_at(9 * HOUR_MS, 2)])
    await storage.delete([job_at(HOUR_MS, 1).id])
    await storage.prune()
    with closing(sqlite3.connect(storage.path)) as connection:
        spans = {span for (span,) in connection.execute("SELECT span FROM jobq_span")}
    assert spans == {span_of(job_at(9 * HOUR_MS, 2).id)}


async def prune_by_itself(storage: SqliteQueueStorage) -> None:
    await storage.prune()


async def prune_by_another(storage: SqliteQueueStorage) -> None:
    async with SqliteQueueStorage(storage.path) as other:
        await other.prune()


@pytest.mark.parametrize("prune", [prune_by_itself, prune_by_another])
async def test_a_job_is_found_in_a_span_that_was_pruned_before(
    storage: SqliteQueueStorage, prune: Callable[[SqliteQueueStorage], Awaitable[None]]
) -> None:
    gone, late = job_at(HOUR_MS, 1), job_at(HOUR_MS, 3)
    await storage.add([gone, job_at(9 * HOUR_MS, 2)])
    await storage.delete([gone.id])
    await prune(storage)
    await storage.add([late])
    assert late.id in [job.id for job in (await storage.find(JobFilter(kinds=(late.kind,)))).jobs]


async def test_a_job_is_found_in_a_span_that_was_pruned_in_the_same_transaction(storage: SqliteQueueStorage) -> None:
    gone, late = job_at(HOUR_MS, 1), job_at(HOUR_MS, 3)

    def prune_between_adds(transaction: Transaction) -> None:
        add(transaction, [job_at(9 * HOUR_MS, 4)])
        prune_some(transaction, [], 1)
        add(transaction, [late])

    await storage.add([gone, job_at(9 * HOUR_MS, 2)])
    await storage.delete([gone.id])
    await storage._write(prune_between_adds)
    assert late.id in [job.id for job in (await storage.find(JobFilter(kinds=(late.kind,)))).jobs]


async def test_a_job_is_found_in_a_span_whose_first_transaction_failed(storage: SqliteQueueStorage) -> None:
    late = job_at(HOUR_MS, 3)

    def fail(transaction: Transaction) -> None:
        add(transaction, [job_at(HOUR_MS, 1)])
        transaction.flush()
        raise RuntimeError("this transaction fails")

    with pytest.raises(RuntimeError, match="this transaction fails"):
        await storage._write(fail)
    await storage.add([late])
    assert [job.id for job in (await storage.find(JobFilter(kinds=(late.kind,)))).jobs] == [late.id]


async def test_a_span_is_stored_once(storage: SqliteQueueStorage) -> None:
    stored: list[list[Span]] = []

    def add_and_flush(transaction: Transaction, number: int) -> None:
        add(transaction, [job_at(HOUR_MS, number)])
        stored.append(transaction.stored_spans.missing(transaction.spans, 0))

    await storage._write(partial(add_and_flush, number=1))
    await storage._write(partial(add_and_flush, number=2))
    assert [[what for what, _, _ in spans] for spans in stored] == [["apart", "kind", "queue"], []]
