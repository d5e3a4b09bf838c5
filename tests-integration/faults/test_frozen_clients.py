"""A client is frozen inside each call, at each point where it waits for the server: the others go on at once.

A frozen client is one that was paused, whose machine was lost, or whose process computes: its transaction stays open
and holds its locks, until the server ends it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import pytest
from nth.operations import OPERATIONS
from nth.place import Fault, Kind
from nth.postgres import OnPostgres
from nth.scenario import Scenario
from nth.world import QUEUES, World

from jobq_core.errors import UniqueKeyBusyError
from jobq_core.states import Ending
from jobq_core.storage import Claim, QueueStorage
from jobq_storage_postgres.testing import ThrowawayPostgres

FROZEN = Kind(name="frozen", freezes=True)
SOON = 2.0
"""Seconds within which any other call must be answered, on a busy machine. Locks are waited for a second at most."""


@pytest.fixture(scope="module")
def on_postgres() -> Iterator[Callable[[], AbstractAsyncContextManager[OnPostgres]]]:
    with ThrowawayPostgres() as server:
        world = asyncio.run(OnPostgres.prepare(server.dsn))
        yield lambda: OnPostgres.opened(server.dsn, world)


@pytest.fixture
async def place(on_postgres: Callable[[], AbstractAsyncContextManager[OnPostgres]]) -> AsyncIterator[OnPostgres]:
    async with on_postgres() as made:
        yield made


def all_others(storage: QueueStorage, world: World, key: str | None) -> Iterator[tuple[str, Any]]:
    """Yield the name and the call of everything that other processes do meanwhile. key: a unique key that the frozen
    client may hold."""
    new, mate = world.new, world.id("mate")
    fresh = [f"fresh {number}" for number in range(6)]
    yield "add", storage.add([new(name) for name in fresh])
    yield "add a free key", storage.add([new("keyed otherwise", unique_key="nobody's")])
    yield "add in a batch", storage.add([new(f"many {number}") for number in range(100)])
    runs = [world.settlement(name, Ending.COMPLETE) for name in ("one", "two", "three")]
    yield "settle", storage.settle_and_claim(mate, runs)
    yield "claim", storage.settle_and_claim(mate, (), Claim.of(*QUEUES, limit=3))
    yield "rescue", storage.rescue()
    yield "promote", storage.promote()
    yield "prune", storage.prune()
    yield "mark started", storage.mark_started(mate, [world.run("last")])
    yield "check leases", storage.check_leases(mate, [world.run("one"), world.run("to abort")])
    for number, what in enumerate(("abort", "disable", "delete")):
        yield what, getattr(storage, what)([world.id(fresh[number])])
    yield "counts", storage.counts()
    yield "register", storage.register(world.worker("fresh worker", kinds=("step", "odd")))
    if key is not None:
        yield "add its key", storage.add([new("the same key", unique_key=key)])


async def go_on(storage: QueueStorage, world: World, key: str | None) -> dict[str, float]:
    """Make all other calls, one after the other, and return the seconds that each took."""
    took: dict[str, float] = {}
    for name, call in all_others(storage, world, key):
        begun = time.monotonic()
        with suppress(UniqueKeyBusyError, TimeoutError):
            async with asyncio.timeout(4 * SOON):
                await call
        took[name] = time.monotonic() - begun
    return took


async def freeze(place: OnPostgres, scenario: Scenario, nth: int) -> tuple[int, dict[str, float]] | None:
    """Freeze a client after its N-th statement; return the number of statements so far and how long others then took.

    A client without a transaction holds nothing, and the others make no call. Returns None if the operation has fewer
    statements.
    """
    fault = Fault(FROZEN, nth)
    await place.restore()
    async with place.stage(fault, opened=True, way=True) as stage:
        fault.armed = True
        client = asyncio.create_task(scenario.act(stage))  # type: ignore[arg-type]
        frozen = asyncio.create_task(fault.frozen.wait())
        try:
            await asyncio.wait([client, frozen], return_when=asyncio.FIRST_COMPLETED)
            if not fault.frozen.is_set():
                await client
                return None
            fault.armed = False
            key = "free" if "unique" in scenario.act.__name__ else None
            took = await go_on(place.other, place.world, key) if await place.holds_transaction() else {}
            return nth - 1 + len(fault.together), took
        finally:
            # The client's connection is cut at the end of the stage.
            for task in (client, frozen):
                task.cancel()


CHANGING = {
    f"{operation}: {scenario.act.__name__}": scenario
    for operation, scenarios in OPERATIONS.items()
    for scenario in scenarios
    if scenario.changes and scenario.before is None and operation != "heartbeat"
}


@pytest.mark.parametrize("scenario", CHANGING.values(), ids=CHANGING)
async def test_others_go_on_at_once_whatever_a_frozen_client_holds(
    place: OnPostgres, scenario: Scenario, report: Callable[..., None]
) -> None:
    nth, slow = 1, dict[str, float]()
    while (found := await freeze(place, scenario, nth)) is not None:
        last, took = found
        report("client frozen inside a call", tried=1)
        slow.update({f"{name}, frozen at {nth}": seconds for name, seconds in took.items() if seconds > SOON})
        nth = last + 1
    assert not slow
    assert nth > 1, "it must have been frozen at least once"
