"""Batches of settlements: their size in bytes, what the storage cannot take at once, and what is busy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace

from jobq_core import Backoff, JobCompleted, JobState, StorageUnavailableError, UniqueKeyBusyError, job
from jobq_core.records import ErrorRecord, Progress
from jobq_core.states import Ending
from jobq_core.storage import Claim, ClaimedJob, SettleAndClaimResult, Settlement
from jobq_worker import outages
from jobq_worker.claiming.budget import CALM, ByteBudget
from jobq_worker.running.run import Run
from jobq_worker.settling import batches, finished
from jobq_worker.settling.batches import Batches
from jobq_worker.settling.finished import FinishedRuns, size_of

from .kit import Endings, add, add_many, ending, record, until, working
from .probe import Probe

KIB = 1024


@job()
async def large(size: int) -> str:
    return "x" * size


@job()
async def quick(n: int = 0) -> int:
    return n


def ended(size: int) -> Run:
    claimed = ClaimedJob(uuid4(), 1, "default", "large", b"{}", 1, 10)
    run = Run(claimed, 0.0)
    run.settlement = Settlement(claimed.id, 1, Ending.COMPLETE, b"x" * size)
    return run


class Sender:
    """Batches with a clock that is moved by hand."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.now = 100.0
        self.finished = FinishedRuns()
        self.add(sizes)
        self.batches = Batches(self.finished, lambda: self.now)

    def add(self, sizes: Sequence[int]) -> None:
        for size in sizes:
            run = ended(size)
            assert run.settlement is not None
            self.finished.append(run, run.settlement)


def test_a_batch_is_bounded_by_its_bytes_and_has_one_settlement_at_least() -> None:
    sender = Sender([KIB * KIB] * 10 + [9 * KIB * KIB])
    sizes = []
    while len(sender.finished):
        sizes.append(len(sender.batches.next()))
        sender.batches.answered(())
    assert sizes == [4, 4, 2, 1]
    assert sender.finished.bytes == 0


def test_small_settlements_are_bounded_by_their_number() -> None:
    sender = Sender([3] * 5000)
    assert sender.finished.bytes == 0
    assert len(sender.batches.next()) == batches.BATCH
    assert sender.batches.answered(())
    assert sender.finished.bytes == 0


def test_a_batch_without_an_answer_is_halved_and_grows_again() -> None:
    sender = Sender([64 * KIB] * 400)
    sizes = []
    for _ in range(9):
        sizes.append(len(sender.batches.next()))
        sender.batches.failed(StorageUnavailableError("no answer within 10 s"))
    assert sizes == [64, 32, 16, 8, 4, 2, 1, 1, 1]
    sizes.clear()
    while len(sender.finished):
        sizes.append(len(sender.batches.next()))
        sender.batches.answered(())
    assert sizes[:-1] == sorted(sizes[:-1])
    assert sizes[: CALM + 1] == [1] * CALM + [2]


def test_a_size_that_is_not_answered_is_tried_ever_more_rarely() -> None:
    budget, failures = ByteBudget(4096, 256), 0
    for _ in range(1000):
        if budget.bytes > 1024:
            failures += 1
            budget.halve()
        else:
            budget.answered()
    assert failures < 10


def test_an_outage_does_not_split_small_batches() -> None:
    sender = Sender([3] * 100)
    sender.batches.next()
    sender.batches.failed(StorageUnavailableError("away"))
    assert len(sender.batches.next()) == 100


def test_a_key_that_an_open_transaction_holds_delays_a_settlement_and_does_not_change_it() -> None:
    sender = Sender([1, 1])
    first = sender.batches.next()
    for _ in range(10):
        sender.batches.failed(UniqueKeyBusyError("held"))
        assert len(sender.batches.next()) == 1
    sender.batches.answered(())
    assert {run.settlement.ending for run in first if run.settlement} == {Ending.COMPLETE}


def test_the_size_counts_all_that_a_settlement_carries() -> None:
    error = ErrorRecord(type="E", message="m" * KIB, traceback="t" * KIB)
    settlement = Settlement(
        uuid4(), 1, Ending.FAIL, error=error, progress=Progress(percent=5.0, message="p" * KIB, details=["d" * KIB])
    )
    assert size_of(settlement) >= 4 * KIB
    assert size_of(Settlement(uuid4(), 1, Ending.COMPLETE, b"null")) == 0


def test_busy_settlements_wait_apart_and_are_sent_again_ever_later() -> None:
    sender = Sender([3] * 4)
    [_, one, _, two] = sender.batches.next()
    sender.batches.answered((1, 3))
    assert (len(sender.finished), sender.finished.busy) == (2, 2)
    waits = []
    for _ in range(10):
        waits.append(sender.batches.busy_at - sender.now)
        sender.now = sender.batches.busy_at
        assert sender.batches.next() == [one, two]
        sender.batches.answered((0, 1))
    assert waits[0] == pytest.approx(0.05)
    assert waits == sorted(waits)
    assert waits[-1] <= 1.0
    sender.add([3])
    [other] = sender.batches.next()
    assert other not in (one, two)
    sender.batches.answered(())
    sender.now = sender.batches.busy_at
    assert sender.batches.next() == [one, two]
    sender.batches.answered(())
    assert (len(sender.finished), sender.batches.busy_at) == (0, float("inf"))


def test_settlements_that_stay_busy_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    sender = Sender([2000])
    while sender.now < 160:
        sender.batches.next()
        sender.batches.answered((0,))
        sender.now = sender.batches.busy_at
    assert [entry.levelno for entry in caplog.records] == [logging.WARNING]
    assert "another transaction holds their jobs" in caplog.text
    assert sender.finished.bytes == 2000


class Busy(Probe):
    """A storage that answers the settlements of some jobs as busy."""

    def __init__(self) -> None:
        super().__init__()
        self.held: set[UUID] = set()

    async def settle_and_claim(  # type: ignore[override]
        self, worker: UUID, settlements: Sequence[Settlement] = (), claim: Claim | None = None
    ) -> SettleAndClaimResult:
        free = [settlement for settlement in settlements if settlement.id not in self.held]
        answer: SettleAndClaimResult = await super().settle_and_claim(worker, free, claim)
        states = iter(answer.settled)
        settled = [None if settlement.id in self.held else next(states) for settlement in settlements]
        busy = tuple([index for index, settlement in enumerate(settlements) if settlement.id in self.held])
        return replace(answer, settled=settled, busy=busy)


async def test_a_busy_settlement_holds_up_nothing_and_is_stored_when_its_job_is_free() -> None:
    async with Busy() as storage, working(storage, quick, concurrency=2) as worker:
        endings = Endings(worker)
        held = await add(storage, quick(1))
        storage.held.add(held)
        await until(lambda: storage.settlements_of(held) or len(worker._session.pipeline.finished))  # type: ignore[union-attr]
        others = await add_many(storage, [quick(n) for n in range(100)])
        assert all(isinstance(event, JobCompleted) for event in await endings.all(others))
        assert (await record(storage, held)).state is JobState.PROCESSING
        await until(lambda: worker.health().busy == 1)
        storage.held.clear()
        assert isinstance(await endings.of(held), JobCompleted)
        assert worker.health().busy == 0
        assert (await record(storage, held)).attempt == 1


async def test_a_worker_that_stops_waits_for_a_busy_settlement() -> None:
    async with Busy() as storage, working(storage, quick) as worker:
        held = await add(storage, quick(1))
        storage.held.add(held)
        await until(lambda: worker.health().busy == 1)
        stopping = asyncio.ensure_future(worker.stop(0))
        await storage.called("settle_and_claim", 2)
        assert not stopping.done()
        storage.held.clear()
        await stopping
        assert (await record(storage, held)).state is JobState.COMPLETED


class Narrow(Probe):
    """A storage that is away at first, and then takes at most so many bytes of settlements in time."""

    most = 2 * KIB * KIB

    async def settle_and_claim(  # type: ignore[override]
        self, worker: UUID, settlements: Sequence[Settlement] = (), claim: Claim | None = None
    ) -> SettleAndClaimResult:
        if sum([len(settlement.result or b"") for settlement in settlements]) > self.most:
            raise StorageUnavailableError("no answer within 10 s")
        answer: SettleAndClaimResult = await super().settle_and_claim(worker, settlements, claim)
        return answer


async def test_many_large_results_settle_after_an_outage_and_are_bounded_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outages, "BACKOFF", Backoff(base=0.001, maximum=0.01))
    size = 1024 * KIB - 2
    async with Narrow() as storage, working(storage, large, quick, concurrency=10) as worker:
        await ending(worker, storage, quick())
        session = worker._session
        assert session is not None
        waiting = session.pipeline.finished
        ids = await add_many(storage, [large(size) for _ in range(300)])
        await until(lambda: len(waiting))
        storage.away = True
        most = 0

        def is_full() -> bool:
            nonlocal most
            most = max(most, waiting.bytes)
            return waiting.is_full and not session.pipeline.running

        await until(is_full)
        assert most <= finished.MOST_BYTES + 11 * KIB * KIB
        storage.away = False
        await until(lambda: worker.pool_stats().total.completed == 301)
        assert waiting.bytes == 0
        assert most <= finished.MOST_BYTES + 11 * KIB * KIB
        found = await storage.get(ids[:3])
        assert [entry.state for entry in found if entry is not None] == [JobState.COMPLETED] * 3


async def test_a_claim_has_a_budget_in_bytes_that_is_halved_while_the_storage_does_not_answer(
    storage: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "BACKOFF", Backoff(base=0.001, maximum=0.01))
    storage.fail("settle_and_claim", 8)
    async with working(storage, quick, poll_interval=0.01) as worker:
        await ending(worker, storage, quick())
        await storage.called("settle_and_claim", 8)
    budgets = [args[2].max_bytes for args in storage.arguments["settle_and_claim"] if len(args) > 2 and args[2]]
    most = budgets[0]
    assert min(budgets[:9]) == 256 * KIB
    assert most == 16 * 1024 * KIB
