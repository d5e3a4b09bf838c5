"""Operations of several callers that SQLite's writer commits together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from jobq_core.states import Ending
from jobq_core.storage import FINISHED_TOPIC, REQUEST_TOPIC, WAITING_TOPIC, Claim, queue_topic
from jobq_storage_sqlite import SqliteQueueStorage
from jobq_storage_sqlite.transaction import Transaction

from .operations import beat
from .place import Sight
from .scenario import Act, Stage


@attrs.frozen(kw_only=True)
class Caller:
    """A caller whose operation is committed together with those of others.

    names: the jobs or the worker that this operation alone changes. topics: the topics that it notifies. errs: whether
    the operation fails even without a fault.
    """

    act: Act
    names: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    errs: bool = False

    def part(self, stage: Stage, sight: Sight) -> list[Any]:
        """Return the visible records that the operation changes."""
        ids = {str(stage.world.id(name)) for name in self.names}
        jobs = [row for row in sight.plain["records"] if row["id"] in ids]
        return jobs + [row for row in sight.plain["workers"] if row["info"]["id"] in ids]


async def add_one(stage: Stage) -> Any:
    return await stage.storage.add([stage.world.new("new")])


async def add_what_cannot_be(stage: Stage) -> Any:
    """Add two jobs, of which the second has a priority out of the database's range."""
    return await stage.storage.add([stage.world.new("never"), stage.world.new("never too", priority=2**70)])


async def add_several(stage: Stage) -> Any:
    new = stage.world.new
    return await stage.storage.add(
        [new("c", queue="c"), new("c too", queue="c", unique_key="free"), new("c later", queue="c", run_at=50.0)]
    )


async def settle_and_claim(stage: Stage) -> Any:
    ending = stage.world.settlement
    return await stage.storage.settle_and_claim(
        stage.world.id("mate"),
        [ending("one", Ending.COMPLETE, result=b"1"), ending("two", Ending.COMPLETE)],
        Claim.of("b", limit=1),
    )


async def abort(stage: Stage) -> Any:
    return await stage.storage.abort([stage.world.id("three")])


CALLERS = (
    Caller(act=add_one, names=("new",), topics=(queue_topic("a"),)),
    Caller(act=add_what_cannot_be, names=("never", "never too"), errs=True),
    Caller(act=add_several, names=("c", "c too", "c later"), topics=(queue_topic("c"), WAITING_TOPIC)),
    Caller(act=settle_and_claim, names=("one", "two", "ready in b"), topics=(FINISHED_TOPIC,)),
    Caller(act=beat, names=("mate",)),
    Caller(act=abort, names=("three",), topics=(REQUEST_TOPIC,)),
)
TOPICS = tuple(topic for caller in CALLERS for topic in caller.topics)


async def together(stage: Stage, ready: Callable[[], None]) -> Sequence[Any]:
    """Queue all operations while the writer is busy, and return their answers and errors.

    ready: called when all are queued, before any further statement.
    """
    storage = stage.storage
    assert isinstance(storage, SqliteQueueStorage)
    assert storage._opened is not None
    writer = storage._opened.writer
    entered, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def stay(transaction: Transaction) -> None:
        loop.call_soon_threadsafe(entered.set)
        assert go_on.wait(30)
        ready()

    busy = asyncio.create_task(writer.call(stay))
    await entered.wait()
    waiting = []
    for queued, caller in enumerate(CALLERS, 1):
        waiting.append(asyncio.create_task(caller.act(stage)))
        while writer._calls.qsize() < queued:  # noqa: ASYNC110 -- one of the calls comes from a thread
            await asyncio.sleep(0)
    go_on.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    await busy
    return answers
