"""SQLite's writer commits several operations together, and the N-th statement fails: each caller gets its answer and
the effect, or an error and no effect, and no notification is sent for a rolled-back operation."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from nth.group import CALLERS, TOPICS, together
from nth.place import Fault, Kind, Sight
from nth.scenario import Stage
from nth.sqlite import OnSqlite
from scaling import Scale

from jobq_core.errors import StorageError
from jobq_core.states import FINISHED
from jobq_core.storage import Subscription

TIMEOUT = 60.0
FIRST = 2
"""The first statement is the commit of the operation that the others wait for."""
KINDS = tuple(
    Kind(name=f"{name} {'after' if after else 'before'}", after=after, **options)
    for after in (False, True)
    for name, options in (
        ("table locked", {"code": sqlite3.SQLITE_LOCKED}),
        ("disk failed", {"code": sqlite3.SQLITE_IOERR}),
        ("disk failed, rolled back,", {"code": sqlite3.SQLITE_IOERR, "undoes": True}),
        ("disk full, rolled back,", {"code": sqlite3.SQLITE_FULL, "undoes": True}),
        ("MemoryError", {"error": MemoryError}),
    )
)
"""After SQLITE_LOCKED the transaction and the connection survive; after SQLITE_IOERR the connection is replaced."""


@attrs.frozen
class Usual:
    """The result without a fault."""

    answers: Sequence[Any]
    before: Sight
    after: Sight
    statements: list[str]


@pytest.fixture
async def place(tmp_path: Path) -> OnSqlite:
    kept = tmp_path / "kept" / "jobs.db"
    kept.parent.mkdir()
    folder = tmp_path / "used"
    folder.mkdir()
    return OnSqlite(folder, await OnSqlite.prepare(kept), kept)


async def notified(subscription: Subscription, wanted: set[str]) -> set[str]:
    """Wait until all wanted topics are notified; return the notified topics."""
    topics = set(await subscription.wait(0))
    async with asyncio.timeout(20):
        while not wanted <= topics:
            topics |= await subscription.wait()
    return topics


async def run_together(place: OnSqlite, fault: Fault, usual: Usual | None) -> tuple[Usual, dict[str, int]]:
    """Run all operations together with the fault injected; compare the result with the usual one."""

    def arm() -> None:
        fault.armed = True

    await place.restore()
    async with place.stage(fault, opened=True, way=True) as stage, stage.storage.subscribe(TOPICS) as subscription:
        before = await place.look()
        answers = [
            answer if isinstance(answer, BaseException) else place.plain(answer)
            for answer in await together(stage, arm)
        ]
        fault.armed = False
        await place.nothing_is_open()
        after = await place.look()
        if usual is None:
            return Usual(answers, before, after, fault.statements), {}
        effects = _effects(stage, usual, answers, after, fault)
        wanted = {topic for caller, effect in zip(CALLERS, effects, strict=True) if effect for topic in caller.topics}
        assert await notified(subscription, wanted) == wanted
        # The writer continues: a repeated operation succeeds, or has succeeded before.
        again = await together(stage, lambda: None)
        assert [isinstance(answer, StorageError) for answer in again] == [caller.errs for caller in CALLERS]
        last = await place.look()
        assert last.plain == usual.after.plain
        figures = {"added": len(last.records)}
        if fault.nth % 9 == 0:
            await stage.storage.clear("c")  # no worker serves this queue
            due = [record.id for record in last.records if record.state not in FINISHED and record.queue != "c"]
            figures["runs"] = len(await place.drain(stage, due))
        return usual, figures


def _effects(stage: Stage, usual: Usual, answers: Sequence[Any], after: Sight, fault: Fault) -> list[bool]:
    """Return which operations took effect: each answered one, and others only if the commit's result is unknown."""
    effects = []
    for caller, answer, usually in zip(CALLERS, answers, usual.answers, strict=True):
        was, now, may_be = (caller.part(stage, sight) for sight in (usual.before, after, usual.after))
        effects.append(now == may_be and not caller.errs)
        if not isinstance(answer, BaseException):
            assert answer == usually
            assert now == may_be
        else:
            assert isinstance(answer, StorageError | MemoryError), repr(answer)
            assert now == was or (now == may_be and _is_commit_unknown(fault))
    others = {name for caller in CALLERS for name in caller.names}
    ids = {str(stage.world.id(name)) for name in others}
    assert [row for row in after.plain["records"] if row["id"] not in ids] == [
        row for row in usual.before.plain["records"] if row["id"] not in ids
    ]
    failed = [
        isinstance(answer, BaseException) and not caller.errs for caller, answer in zip(CALLERS, answers, strict=True)
    ]
    if _is_commit_unknown(fault):
        # There is one commit: all operations take effect, or none.
        assert len({effect for caller, effect in zip(CALLERS, effects, strict=True) if not caller.errs}) == 1
    else:
        assert sum(failed) <= 1, "a caller got another caller's error"
    return effects


def _is_commit_unknown(fault: Fault) -> bool:
    """Return whether the result of the commit is unknown."""
    kind = fault.kind
    assert kind is not None
    return fault.statements[-1] == "COMMIT" and (kind.error is not None or kind.code == sqlite3.SQLITE_IOERR)


def cases_of(statements: list[str], seed: int, scale: Scale) -> Iterator[tuple[int, Kind]]:
    """Yield the statement that fails and the way in which it fails. In a soak, each statement fails in each way;
    otherwise the ways take turns, except for the commit, which always fails in each way."""
    for nth, statement in enumerate(statements, 1):
        if nth < FIRST:
            continue
        every = scale.is_soak or statement == "COMMIT"
        for number, kind in enumerate(KINDS):
            # SQLite never reports a full disk or a locked table for a commit that took effect.
            impossible = (
                statement == "COMMIT" and kind.after and kind.code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_LOCKED)
            )
            if not impossible and (every or (nth + number + seed) % 4 == 0):
                yield nth, kind


async def test_each_statement_of_a_group_commit_may_fail(
    place: OnSqlite, report: Callable[..., None], seed: int, scale: Scale
) -> None:
    usual, _ = await run_together(place, Fault(), None)
    assert [isinstance(answer, BaseException) for answer in usual.answers] == [caller.errs for caller in CALLERS]
    controls = {"BEGIN IMMEDIATE", "SAVEPOINT operation", "ROLLBACK TO operation", "RELEASE operation", "COMMIT"}
    assert controls <= {*usual.statements}
    # Once without savepoints, and again with them, since an operation of the group fails.
    assert usual.statements.count("BEGIN IMMEDIATE") == 2
    for nth, kind in cases_of(usual.statements, seed, scale):
        fault = Fault(kind, nth)
        try:
            async with asyncio.timeout(TIMEOUT):
                _, figures = await run_together(place, fault, usual)
        except BaseException as failure:
            failure.add_note(f"{fault}")
            raise
        assert fault.fired
        report(f"N-th statement of a group, SQLite: {kind.name}", tried=1, **figures)
