"""Starting and stopping, as clients, workers, servers and queues do it."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from jobq_core.errors import ClosedError, ConfigurationError
from jobq_core.lifecycle import Lifecycle


class Thing(Lifecycle):
    """Counts starts and stops. A start waits for `may_go_on`, and may fail."""

    _noun = "thing"

    def __init__(self) -> None:
        super().__init__()
        self.starts = 0
        self.stops = 0
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.error: Exception | None = None

    async def _start(self) -> None:
        self.starts += 1
        await self.may_go_on.wait()
        if self.error is not None:
            raise self.error

    async def _stop(self) -> None:
        self.stops += 1

    def use(self) -> None:
        self._check_running()


async def test_a_second_start_and_a_second_stop_do_nothing() -> None:
    thing = Thing()
    await thing.stop()
    async with thing:
        await thing.start()
        thing.use()
        assert (thing.starts, thing.is_running) == (1, True)
    await thing.stop()
    assert (thing.starts, thing.stops, thing.is_running) == (1, 1, False)


async def test_a_stopped_object_can_be_started_again() -> None:
    thing = Thing()
    for _ in range(2):
        async with thing:
            thing.use()
    assert (thing.starts, thing.stops) == (2, 2)


async def test_of_two_starts_at_once_the_second_waits_for_the_first() -> None:
    thing = Thing()
    thing.may_go_on.clear()
    starts = [asyncio.create_task(thing.start()) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(start.done() for start in starts)
    thing.may_go_on.set()
    await asyncio.gather(*starts)
    assert thing.starts == 1


async def test_after_a_failed_start_it_is_not_running_and_can_be_started() -> None:
    thing = Thing()
    thing.error = OSError("no database")
    with pytest.raises(OSError, match="no database"):
        await thing.start()
    assert not thing.is_running
    thing.error = None
    async with thing:
        thing.use()


async def test_use_while_stopped_is_refused_with_the_remedy() -> None:
    with pytest.raises(ClosedError, match="the thing is not running: use it inside `async with`, or call start"):
        Thing().use()


async def test_use_on_another_event_loop_is_refused() -> None:
    async with Thing() as thing:
        errors: list[BaseException] = []

        async def elsewhere() -> None:
            for act in (thing.start, thing.stop):
                with pytest.raises(ConfigurationError, match="on another event loop"):
                    await act()
            with pytest.raises(ConfigurationError, match="nothing was sent") as caught:
                thing.use()
            errors.append(caught.value)

        thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
        thread.start()
        await asyncio.to_thread(thread.join)
        assert len(errors) == 1
        thing.use()
    assert thing.stops == 1


def test_use_outside_an_event_loop_is_refused() -> None:
    async def started() -> Thing:
        thing = Thing()
        await thing.start()
        return thing

    thing = asyncio.run(started())
    with pytest.raises(ConfigurationError, match="outside an event loop"):
        thing.use()


def status_of(child: int) -> int:
    """Wait for the end of a child process."""
    return os.waitpid(child, 0)[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # newer Pythons warn of threads at a fork
async def test_an_object_that_was_starting_at_a_fork_can_be_started_in_the_child() -> None:
    thing = Thing()
    thing.may_go_on.clear()
    starting = asyncio.create_task(thing.start())
    while not thing.starts:  # noqa: ASYNC110  (it counts turns, not time)
        await asyncio.sleep(0)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            thing.may_go_on = asyncio.Event()
            thing.may_go_on.set()
            asyncio.run(asyncio.wait_for(thing.start(), 20))
            status = 0 if thing.is_running else 1
        finally:
            os._exit(status)
    assert status_of(child) == 0
    thing.may_go_on.set()
    await starting
    thing.use()
    await thing.stop()
