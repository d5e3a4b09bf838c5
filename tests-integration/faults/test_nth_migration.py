"""A migration fails at its N-th statement, before or after it: the next attempt succeeds, and no job is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import attrs
import psycopg
import pytest
from nth.place import Fault, Kind
from nth.schema import Act, Schema, act_on, jobs_run
from nth.schema_postgres import PostgresSchema
from nth.schema_sqlite import SqliteSchema
from scaling import Scale

from jobq_core.errors import StorageUnavailableError
from jobq_storage_postgres import migrations
from jobq_storage_postgres.testing import ThrowawayPostgres

TIMEOUT = 60.0
EVERY = 7
"""Outside a soak, only every seventh statement fails, and the last one, the commit."""


@pytest.fixture(params=["PostgreSQL", "SQLite"])
async def schema(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Schema]:
    monkeypatch.setattr(migrations, "_PAUSE_SECONDS", 0.0)
    if request.param == "SQLite":
        on_sqlite = SqliteSchema(tmp_path)
        await on_sqlite.prepare()
        yield on_sqlite
    else:
        with ThrowawayPostgres() as server:
            async with await psycopg.AsyncConnection.connect(server.dsn, autocommit=True) as connection:
                on_postgres = PostgresSchema(server.dsn, connection)
                await on_postgres.prepare()
                yield on_postgres


@attrs.frozen
class Usual:
    """The result without a fault."""

    answer: list[str] | None
    catalog: list[str]
    applied: list[str]
    statements: int


async def undisturbed(schema: Schema, start: str, act: Act) -> Usual:
    """Migrate without a fault, and check that the result is the same statement by statement."""
    await schema.start(start)
    answer = await act_on(schema.storage(), act)
    catalog, applied = await schema.catalog(), await schema.applied()
    fault = Fault()
    await schema.start(start)
    async with schema.faulty(fault) as storage:
        fault.armed = True
        assert await act_on(storage, act) == answer
    assert (await schema.catalog(), await schema.applied()) == (catalog, applied)
    return Usual(answer, catalog, applied, len(fault.statements))


def cases_of(schema: Schema, statements: int, number: int, seed: int, scale: Scale) -> Iterator[tuple[int, Kind]]:
    """Yield the statement that fails and the way in which it fails. In a soak, similar ways take turns; otherwise all
    ways do. The last statement, the commit, fails in each way; at the smallest scale, the cases take turns at that.

    number: the place of the case among the schema's.
    """
    all_kinds = [kind for kinds in schema.kinds for kind in kinds]
    every = max(1, EVERY // scale.times(1))
    for nth in range(1 + seed % every, statements, every):
        for kinds in schema.kinds if scale.is_soak else [all_kinds]:
            yield nth, kinds[(nth + seed) % len(kinds)]
    for kind in all_kinds[number % 2 :: 2] if scale.is_smallest else all_kinds:
        yield statements, kind


async def fail_once(
    schema: Schema, start: str, act: Act, fault: Fault, usual: Usual, *, beside: bool
) -> dict[str, int]:
    """Let the N-th statement fail, and migrate again. beside: another storage migrates at the same time."""
    await schema.start(start)
    async with schema.faulty(fault) as storage:
        fault.armed = True
        others = [act_on(schema.storage(), act)] if beside else []
        ours, *theirs = await asyncio.gather(act_on(storage, act), *others, return_exceptions=True)
        fault.armed = False
        await schema.nothing_is_open()
        none = None if usual.answer is None else []
        assert all(answer in (usual.answer, none) for answer in theirs)
        if isinstance(ours, BaseException):
            assert isinstance(ours, StorageUnavailableError), repr(ours)
            assert fault.fired
        again = await act_on(storage, act)
    kind = fault.kind
    assert kind is not None
    # A commit whose answer is lost may have taken effect; so may a repeated statement.
    done = beside or not isinstance(ours, BaseException) or kind.breaks or kind.after
    assert again == usual.answer or (done and again == none)
    assert (await schema.applied(), await schema.catalog()) == (usual.applied, usual.catalog)
    assert await act_on(schema.storage(), act) == none
    return {"tried": int(fault.fired), **await jobs_run(schema.storage(), schema.kept[start])}


async def test_a_migration_may_fail_at_each_statement(
    schema: Schema, report: Callable[..., None], seed: int, scale: Scale
) -> None:
    with schema.knowing(2):
        for number, (start, act) in enumerate(schema.cases):
            usual = await undisturbed(schema, start, act)
            for nth, kind in cases_of(schema, usual.statements, number, seed, scale):
                fault = Fault(kind, nth)
                beside = (nth + seed) % 2 == 0
                try:
                    async with asyncio.timeout(TIMEOUT):
                        figures = await fail_once(schema, start, act, fault, usual, beside=beside)
                except BaseException as failure:
                    failure.add_note(f"{act} from {start}{', two at once' * beside}: {fault}")
                    raise
                report(f"N-th statement of a migration, {schema.name}: {kind.name}", **figures)
