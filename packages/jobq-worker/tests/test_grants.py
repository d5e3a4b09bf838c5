"""Limiters of the user's own: opened and closed, and failing in every way, beside jobs that run and settle."""

from __future__ import annotations

import asyncio
import contextlib
from uuid import UUID

import pytest

from jobq_core import Backoff, ConcurrencyLimiter, DelayLimiter, JobCompleted, Limiter, QueueStorage, job
from jobq_core.limiters import Grant
from jobq_worker import outages
from jobq_worker.claiming import grants

from .kit import Endings, Stage, add, add_many, ending, until, working
from .probe import Probe


@job()
async def quick(n: int = 0) -> int:
    return n


@job()
async def unknown() -> None: ...


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let calls of a limiter be given up quickly, and retries follow quickly."""
    monkeypatch.setattr(outages, "BACKOFF", Backoff(base=0.001, maximum=0.01))
    monkeypatch.setattr(grants, "CALL_SECONDS", 0.05)
    monkeypatch.setattr(grants, "CLOSE_SECONDS", 0.1)


ERRORS: dict[str, type[BaseException]] = {
    "raises": ConnectionError,
    "is cancelled": asyncio.CancelledError,
    "exits": SystemExit,
    "": ValueError,
}


class Own(Limiter):
    """A limiter that notes its calls, and fails in one of them while `mode` is set."""

    name = "own"

    def __init__(self, method: str = "") -> None:
        self.method = method
        self.mode: str = ""
        self.calls: list[str] = []
        self.opened: list[tuple[QueueStorage, UUID]] = []

    async def _call(self, method: str) -> None:
        self.calls.append(method)
        if self.mode and method == self.method:
            if self.mode == "hangs":
                await asyncio.Event().wait()
            while self.mode == "ignores its cancellation":
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
            raise ERRORS[self.mode]()

    async def open(self, storage: QueueStorage, worker: UUID) -> None:
        await self._call("open")
        self.opened.append((storage, worker))

    async def close(self) -> None:
        await self._call("close")

    async def acquire(self, n: int = 1) -> Grant:
        await self._call("acquire")
        return Grant(n)

    async def started(self, n: int = 1) -> None:
        await self._call("started")

    async def release(self, n: int = 1) -> None:
        await self._call("release")

    async def finished(self, n: int = 1) -> None:
        await self._call("finished")


@pytest.mark.parametrize("mode", ["raises", "hangs", "is cancelled", "exits"])
@pytest.mark.parametrize("method", ["open", "acquire", "started", "finished", "release"])
async def test_a_limiter_that_fails_withholds_no_settlement_and_ends_nothing(
    storage: Probe, stage: Stage, method: str, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    @job()
    async def first() -> None:
        stage.reach("started")
        await stage.reached("go on")

    limiter = Own(method)
    async with working(storage, first, quick, limiter=limiter, concurrency=3, poll_interval=0.02) as worker:
        endings = Endings(worker)
        before = await add(storage, first())
        await stage.reached("started")
        limiter.mode = mode
        if method == "open":
            assert worker.id is not None
            await storage.deregister(worker.id)  # it registers again, and opens the limiter again
        stage.reach("go on")
        if method != "open":
            assert isinstance(await endings.of(before), JobCompleted)
        after = await add(storage, quick(2))
        part = f"limiter 'own': {'acquire' if method == 'open' else method}"
        await until(lambda: part in caplog.text)
        assert not worker.health().healthy
        limiter.mode = ""
        assert isinstance(await endings.of(after), JobCompleted)
        assert isinstance(await ending(worker, storage, quick(3)), JobCompleted)
        await until(lambda: worker.health().healthy)


@pytest.mark.parametrize("method", ["acquire", "started", "finished", "release", "close"])
async def test_a_limiter_that_never_returns_does_not_keep_a_worker_from_stopping(storage: Probe, method: str) -> None:
    limiter = Own(method)
    async with working(storage, quick, limiter=limiter) as worker:
        await ending(worker, storage, quick())
        limiter.mode = "ignores its cancellation"
        await add(storage, quick())
        await until(lambda: method in limiter.calls or method == "close")
        async with asyncio.timeout(5):
            await worker.stop(0)
    limiter.mode = ""
    for task in asyncio.all_tasks():
        if task.get_name().startswith("limiter"):
            task.cancel()


async def test_a_limiter_is_opened_with_the_storage_and_the_registration_and_closed_at_the_end(storage: Probe) -> None:
    limiter = Own()
    async with working(storage, quick, limiter=limiter) as worker:
        await ending(worker, storage, quick())
        assert limiter.opened == [(storage, worker.id)]
    assert limiter.calls[0] == "open"
    assert limiter.calls[-1] == "close"


async def test_a_limiter_is_opened_again_when_the_worker_registers_again(storage: Probe) -> None:
    limiter = Own()
    async with working(storage, quick, limiter=limiter, poll_interval=0.02) as worker:
        await ending(worker, storage, quick())
        first = worker.id
        assert first is not None
        await storage.deregister(first)
        endings = Endings(worker)
        assert isinstance(await endings.of(await add(storage, quick())), JobCompleted)
        assert [opened for _, opened in limiter.opened] == [first, worker.id]


async def test_jobs_that_end_unrun_cost_no_grant_and_no_wait(storage: Probe) -> None:
    # One start in ten minutes: if one of the others took it, the last job would not start in this test.
    await add_many(storage, [quick() for _ in range(60)], deadline=0)
    await add_many(storage, [unknown() for _ in range(60)])
    async with working(storage, quick, limiter=DelayLimiter(600), poll_interval=600) as worker:
        await Endings(worker).of(await add(storage, quick(7)))
        assert storage.calls["settle_and_claim"] < 30


@pytest.mark.parametrize("limiter", [None, ConcurrencyLimiter(1), DelayLimiter(600)])
async def test_a_known_job_behind_many_unknown_ones_takes_few_exchanges(
    storage: Probe, limiter: Limiter | None
) -> None:
    await add_many(storage, [unknown() for _ in range(5000)])
    ids = await add_many(storage, [quick(n) for n in range(40)])
    async with working(storage, quick, limiter=limiter, concurrency=1, poll_interval=600) as worker:
        endings = Endings(worker)
        assert isinstance(await endings.of(ids[0]), JobCompleted)
        assert storage.calls["settle_and_claim"] < 20
        if not isinstance(limiter, DelayLimiter):
            events = await endings.all(ids)
            assert [event.job_id for event in events] == ids


async def test_jobs_claimed_beyond_the_limit_are_handed_back_in_their_order(storage: Probe, stage: Stage) -> None:
    @job()
    async def long(n: int) -> None:
        stage.notes.append(n)
        stage.reach(f"started {n}")
        await stage.reached(f"go on {n}")

    await add_many(storage, [unknown() for _ in range(20)])
    await add_many(storage, [long(n) for n in range(10)])
    async with working(storage, long, limiter=ConcurrencyLimiter(1), concurrency=3) as worker:
        for n in range(10):
            await stage.reached(f"started {n}")
            assert worker.health().buffered == 0
            stage.reach(f"go on {n}")
    assert stage.notes == list(range(10))
