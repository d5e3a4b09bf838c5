"""Whatever a callback raises, or however long it takes, it stops nothing but itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobq_client import JobQueueClient, callbacks
from jobq_client.callbacks import Callbacks
from jobq_core import JobCompleted

from .helpers import ManualWorker, Probe, until
from .jobs import keep


class OddError(BaseException):
    """An error that is not an Exception."""


ERRORS = [asyncio.CancelledError, SystemExit, GeneratorExit, OddError, ValueError]


def _raising(error: type[BaseException], *, later: bool) -> Callable[..., Awaitable[None] | None]:
    def now(_: object) -> None:
        raise error("told so")

    async def soon(_: object) -> None:
        await asyncio.sleep(0)
        raise error("told so")

    return soon if later else now


@pytest.mark.parametrize("later", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("place", ["on_progress", "on"])
async def test_an_error_of_a_callback_ends_no_wait_of_others(
    storage: Probe, worker: ManualWorker, place: str, error: type[BaseException], later: bool
) -> None:
    async with JobQueueClient(storage, poll=3600) as client:
        first, second = await client.add_many([keep(1), keep(2)])
        waiting = asyncio.create_task(second.result())
        if place == "on_progress":
            client.on_progress(first, _raising(error, later=later))
        else:
            client.on(JobCompleted, _raising(error, later=later))
            client.watch(first)
        await until(lambda: storage.calls["get_status"] > 0)
        claimed = {job.id: job for job in await worker.claim()}
        await worker.report(claimed[first.id], 50)
        await worker.complete(claimed[first.id], b"1")
        assert await first.result() == 1
        await worker.complete(claimed[second.id], b"2")
        assert await waiting == 2
        third = await client.add(keep(3))
        await worker.run(b"3")
        assert await third.result() == 3


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("later", [False, True], ids=["sync", "async"])
async def test_an_error_is_logged(caplog: pytest.LogCaptureFixture, error: type[BaseException], later: bool) -> None:
    Callbacks(logging.getLogger("jobq.client")).call("a callback", _raising(error, later=later), None)
    await until(lambda: bool(caplog.messages))
    assert caplog.messages == ["a callback failed"]
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[0] is error


async def test_a_keyboard_interrupt_is_raised() -> None:
    with pytest.raises(KeyboardInterrupt):
        Callbacks(logging.getLogger("jobq.client")).call("a callback", _raising(KeyboardInterrupt, later=False), None)


async def test_the_number_of_calls_that_hang_is_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "MAX_UNFINISHED", 3)
    calls = Callbacks(logging.getLogger("jobq.client"))
    release = asyncio.Event()
    begun: list[Any] = []

    async def hang(n: int) -> None:
        begun.append(n)
        await release.wait()

    for n in range(5):
        calls.call("a callback", hang, n)
    await until(lambda: len(begun) == 3)
    assert caplog.messages == ["a callback is skipped: 3 earlier calls have not finished"]
    release.set()
    await until(lambda: not calls._tasks)
    calls.call("a callback", hang, 5)
    await until(lambda: begun == [0, 1, 2, 5])


async def test_the_cancellation_of_a_call_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    calls = Callbacks(logging.getLogger("jobq.client"))
    calls.call("a callback", lambda: asyncio.Event().wait())
    (task,) = calls._tasks
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert not caplog.messages
