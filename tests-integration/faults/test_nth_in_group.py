"""What SQLite's writer commits together fails at its N-th statement: each caller gets its answer and the effect, or an
error and none, and nobody is rung for what was undone."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from nth.group import CALLERS, TOPICS, together
from nth.operations import Stage
from nth.place import Fault, Kind, Sight
from nth.sqlite import OnSqlite
from scaling import Scale

from jobq_core.errors import StorageError
from jobq_core.states import FINISHED
from jobq_core.storage import Subscription

PATIENCE = 60.0
FIRST = 2
"""The first statement is the commit of the one whom the others wait for."""
KINDS = tuple(
    Kind(name=f"{name} {'after' if after else 'before'}", after=after, **options)
    for after in (False, True)
    for name, options in (
        ("a table locked", {"code": sqlite3.SQLITE_LOCKED}),
        ("disk failed", {"code": sqlite3.SQLITE_IOERR}),
        ("disk failed, undone,", {"code": sqlite3.SQLITE_IOERR, "undoes": True}),
        ("disk full, undone,", {"code": sqlite3.SQLITE_FULL, "undoes": True}),
        ("MemoryError", {"error": MemoryError}),
    )
)
"""With SQLITE_LOCKED the transaction and the connection live on, with SQLITE_IOERR the connection is given up."""


@attrs.frozen
class Usual:
    """What comes of it where nothing fails."""

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


async def rung(ear: Subscription, wanted: set[str]) -> set[str]:
    """Return what has rung as soon as all that is wanted has."""
    heard = set(await ear.wait(0))
    async with asyncio.timeout(20):
        while not wanted <= heard:
            heard |= await ear.wait()
    return heard


async def befallen(place: OnSqlite, fault: Fault, usual: Usual | None) -> tuple[Usual, dict[str, int]]:
    """Let all act together while the fault is about; hold what comes of it against what usually does."""

    def arm() -> None:
        fault.armed = True

    await place.restore()
    async with place.stage(fault, opened=True, way=True) as stage, stage.storage.subscribe(TOPICS) as ear:
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
        assert await rung(ear, wanted) == wanted
        # The writer goes on: what is asked again is done, or was.
        again = await together(stage, lambda: None)
        assert [isinstance(answer, StorageError) for answer in again] == [caller.errs for caller in CALLERS]
        last = await place.look()
        assert last.plain == usual.after.plain
        figures = {"added": len(last.records)}
        if fault.nth % 9 == 0:
            await stage.storage.clear("c")  # nobody works there
            due = [record.id for record in last.records if record.state not in FINISHED and record.queue != "c"]
            figures["runs"] = len(await place.drain(stage, due))
        return usual, figures


def _effects(stage: Stage, usual: Usual, answers: Sequence[Any], after: Sight, fault: Fault) -> list[bool]:
    """Return whose operations took effect; each that was answered did, and no other unless nobody can know."""
    effects = []
    for caller, answer, usually in zip(CALLERS, answers, usual.answers, strict=True):
        was, now, may_be = (caller.part(stage, sight) for sight in (usual.before, after, usual.after))
        effects.append(now == may_be and not caller.errs)
        if not isinstance(answer, BaseException):
            assert answer == usually
            assert now == may_be
        else:
            assert isinstance(answer, StorageError | MemoryError), repr(answer)
            assert now == was or (now == may_be and _in_doubt(fault))
    others = {name for caller in CALLERS for name in caller.names}
    ids = {str(stage.world.id(name)) for name in others}
    assert [row for row in after.plain["records"] if row["id"] not in ids] == [
        row for row in usual.before.plain["records"] if row["id"] not in ids
    ]
    failed = [
        isinstance(answer, BaseException) and not caller.errs for caller, answer in zip(CALLERS, answers, strict=True)
    ]
    if _in_doubt(fault):
        # It is one commit: all of it, or none.
        assert len({effect for caller, effect in zip(CALLERS, effects, strict=True) if not caller.errs}) == 1
    else:
        assert sum(failed) <= 1, "somebody got another one's error"
    return effects


def _in_doubt(fault: Fault) -> bool:
    """Say whether nobody can know what became of the commit."""
    kind = fault.kind
    assert kind is not None
    return fault.statements[-1] == "COMMIT" and (kind.error is not None or kind.code == sqlite3.SQLITE_IOERR)


def cases_of(statements: list[str], seed: int, scale: Scale) -> Iterator[tuple[int, Kind]]:
    """Give which statement fails, and how: each in each way in a soak, else in ways that take turns; and the commit in
    each way."""
    for nth, statement in enumerate(statements, 1):
        if nth < FIRST:
            continue
        every = scale.is_soak or statement == "COMMIT"
        for number, kind in enumerate(KINDS):
            # SQLite does not say of a commit that took effect that the disk is full, or a table locked.
            impossible = (
                statement == "COMMIT" and kind.after and kind.code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_LOCKED)
            )
            if not impossible and (every or (nth + number + seed) % 4 == 0):
                yield nth, kind


async def test_each_statement_of_what_is_committed_together_may_fail(
    place: OnSqlite, report: Callable[..., None], seed: int, scale: Scale
) -> None:
    usual, _ = await befallen(place, Fault(), None)
    assert [isinstance(answer, BaseException) for answer in usual.answers] == [caller.errs for caller in CALLERS]
    controls = {"BEGIN IMMEDIATE", "SAVEPOINT operation", "ROLLBACK TO operation", "RELEASE operation", "COMMIT"}
    assert controls <= {*usual.statements}
    assert usual.statements.count("BEGIN IMMEDIATE") == 1
    for nth, kind in cases_of(usual.statements, seed, scale):
        fault = Fault(kind, nth)
        try:
            async with asyncio.timeout(PATIENCE):
                _, figures = await befallen(place, fault, usual)
        except BaseException as failure:
            failure.add_note(f"{fault}")
            raise
        assert fault.fired
        report(f"N-th statement of a group, SQLite: {kind.name}", tried=1, **figures)
