"""Callbacks that misbehave: what they raise, or that they never return, concerns nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from jobq_core import events
from jobq_core.events import EventSource, WorkerStarted
from jobq_core.ids import new_id

EVENT = WorkerStarted(worker=new_id(), name="w")
ERRORS = [ValueError, asyncio.CancelledError, SystemExit, GeneratorExit]


@pytest.fixture
def source() -> EventSource:
    return EventSource()


def raising(error: type[BaseException], *, later: bool) -> Callable[[object], Any]:
    async def raise_later(_: object) -> None:
        await asyncio.sleep(0)
        raise error

    def raise_now(_: object) -> None:
        raise error

    return raise_later if later else raise_now


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("later", [False, True], ids=["sync", "async"])
async def test_what_a_callback_raises_is_logged_and_the_others_are_called(
    source: EventSource, caplog: pytest.LogCaptureFixture, error: type[BaseException], *, later: bool
) -> None:
    seen: list[object] = []
    source.on(WorkerStarted, raising(error, later=later))
    source.on(WorkerStarted, seen.append)
    source.emit(EVENT)
    await asyncio.wait([*source._calls, asyncio.ensure_future(asyncio.sleep(0))])
    assert seen == [EVENT]
    assert [record.getMessage() for record in caplog.records] == ["a listener to WorkerStarted failed"]


async def test_an_interrupt_of_the_program_is_not_swallowed(source: EventSource) -> None:
    source.on(WorkerStarted, raising(KeyboardInterrupt, later=False))
    with pytest.raises(KeyboardInterrupt):
        source.emit(EVENT)


async def test_async_callbacks_that_never_end_are_bounded(
    source: EventSource, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_CALLS", 3)
    gate, started, seen = asyncio.Event(), [], []

    async def hang(event: object) -> None:
        started.append(event)
        await gate.wait()

    source.on(WorkerStarted, hang)
    source.on(WorkerStarted, seen.append)
    for _ in range(5):
        source.emit(EVENT)
    await asyncio.sleep(0)
    assert len(started) == 3
    assert len(seen) == 5
    assert [record.getMessage() for record in caplog.records] == [
        "3 calls of async listeners have not ended; they miss events from WorkerStarted on"
    ]
    gate.set()
    await asyncio.wait(source._calls)
    source.emit(EVENT)
    await asyncio.sleep(0)
    assert len(started) == 4


async def test_a_cancelled_call_of_a_callback_ends_without_a_word(
    source: EventSource, caplog: pytest.LogCaptureFixture
) -> None:
    source.on(WorkerStarted, lambda _: asyncio.Event().wait())
    source.emit(EVENT)
    await asyncio.sleep(0)
    [call] = source._calls
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    assert caplog.records == []
