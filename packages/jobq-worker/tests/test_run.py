"""That nothing refers to a run once it has ended: the garbage collector does not see runs, and could not help."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobq_core import JobContext, job
from jobq_worker import session

from .kit import Endings, add, until, working
from .probe import Probe

made: list[weakref.ref[Any]] = []


def look(context: JobContext) -> None:
    """Remember what belongs to this run alone, to see it go."""
    context.progress(50)
    made.append(weakref.ref(context))
    task = asyncio.current_task()
    assert task is not None
    made.append(weakref.ref(task))


@job(max_attempts=1)
async def returns(context: JobContext) -> None:
    look(context)


@job(max_attempts=1)
async def raises(context: JobContext) -> None:
    look(context)
    raise ValueError("no")


@job(max_attempts=1, timeout=0.01)
async def late(context: JobContext) -> None:
    look(context)
    await asyncio.sleep(600)


@job(max_attempts=1)
async def long(context: JobContext) -> None:
    look(context)
    await asyncio.sleep(600)


@pytest.fixture(autouse=True)
def forget() -> None:
    made.clear()


async def gone() -> None:
    """Wait until nothing that was seen is there any more; what holds it for a moment is the loop's."""

    def is_gone() -> bool:
        gc.collect()
        return bool(made) and not any(ref() for ref in made)

    await until(is_gone)


@pytest.mark.parametrize("kind", [returns, raises, late], ids=lambda kind: kind.__name__)
async def test_what_belongs_to_a_run_goes_with_its_end(storage: Probe, kind: Callable[[], Any]) -> None:
    async with working(storage, kind) as worker:
        endings = Endings(worker)
        await endings.of(await add(storage, kind()))
        await gone()


async def test_what_belongs_to_a_run_goes_when_it_is_aborted(storage: Probe) -> None:
    async with working(storage, long) as worker:
        endings = Endings(worker)
        job_id = await add(storage, long())
        await until(lambda: bool(made))
        await storage.abort([job_id])
        await endings.of(job_id)
        await gone()


async def test_what_belongs_to_a_run_goes_when_its_worker_stops(storage: Probe) -> None:
    async with working(storage, long):
        await add(storage, long())
        await until(lambda: bool(made))
    await gone()


async def test_what_belongs_to_a_run_goes_even_if_its_handler_outlived_the_worker(
    storage: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "END_SECONDS", 0.05)
    go_on = asyncio.Event()
    ended = asyncio.Event()

    @job(max_attempts=1)
    async def deaf(context: JobContext) -> None:
        look(context)
        await _through(go_on.wait)
        ended.set()

    async with working(storage, deaf):
        await add(storage, deaf())
        await until(lambda: bool(made))
    go_on.set()
    await ended.wait()
    await gone()


async def _through(wait: Callable[[], Awaitable[object]]) -> None:
    """Wait, and ignore cancellation."""
    while True:
        try:
            await wait()
            return
        except asyncio.CancelledError:
            continue
