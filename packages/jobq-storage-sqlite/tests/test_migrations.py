"""Schema versions: none, older, edited, newer."""
# ruff: noqa: ASYNC240 -- nothing else runs on the loop meanwhile

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from jobq_core.errors import SchemaError
from jobq_core.migrations import Migration, Migrations
from jobq_core.records import JobRecord
from jobq_core.testing import add_job, fill, state_of, work_on
from jobq_core.testing.migrating import CLAIMABLE
from jobq_storage_sqlite import SqliteQueueStorage, migrations

Know = Callable[..., None]

PRE = Migration("0002_pre_notes", "CREATE TABLE jobq_note (a TEXT);\nCREATE TABLE jobq_more (a TEXT);\n")
POST = Migration("0003_post_no_notes", "DROP TABLE jobq_note;\n")
LATER = Migration(
    "0004_pre_mood",
    "".join(
        f"ALTER TABLE jobq_{table} ADD COLUMN mood TEXT DEFAULT 'good';\n"
        for table in ("job", "life", "attempt", "worker", "queue", "topic")
    ),
)
"""A column that older code does not know, in every table that it writes to."""
BROKEN = Migration("0004_pre_broken", "CREATE TABLE jobq_b (a TEXT);\nCREATE TABLE jobq_b (a TEXT);\n")


@pytest.fixture
def know(monkeypatch: pytest.MonkeyPatch) -> Know:
    """Let the code know more migrations than it has."""
    first = migrations.known()

    def know(*more: Migration) -> None:
        monkeypatch.setattr(migrations, "known", lambda: Migrations(first.package, (*first.steps, *more)))

    return know


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


async def test_an_empty_file_gets_its_tables_at_open(path: Path) -> None:
    async with SqliteQueueStorage(path) as storage:
        assert await storage.migrate() == []
        await add_job(storage)


async def test_without_migrate_a_missing_file_is_not_made(path: Path) -> None:
    with pytest.raises(Exception, match="cannot be opened"):
        await SqliteQueueStorage(path, migrate=False).open()
    assert not path.exists()


async def test_a_storage_that_keeps_the_schema_makes_neither_file_nor_tables(path: Path) -> None:
    storage = SqliteQueueStorage(path)
    storage.keep_schema()
    with pytest.raises(Exception, match="cannot be opened"):
        await storage.open()
    assert not path.exists()
    path.touch()
    with pytest.raises(SchemaError, match="jobq migrate"):
        await storage.open()
    assert tables(path) == set()


async def test_without_migrate_a_file_without_tables_is_refused(path: Path) -> None:
    path.touch()
    with pytest.raises(SchemaError, match="jobq migrate"):
        await SqliteQueueStorage(path, migrate=False).open()
    assert tables(path) == set()


async def test_migrate_makes_the_tables_once_on_a_storage_that_is_not_open(path: Path) -> None:
    storage = SqliteQueueStorage(path, migrate=False)
    assert await storage.migrate() == ["0001_pre_jobs"]
    assert await storage.migrate() == []
    async with storage:
        await add_job(storage)


async def test_an_older_schema_is_brought_up_to_what_is_safe(path: Path, know: Know) -> None:
    async with SqliteQueueStorage(path) as storage:
        job = await add_job(storage)
    know(PRE, POST)
    with pytest.raises(SchemaError, match=r"0002_pre_notes.*jobq migrate"):
        await SqliteQueueStorage(path, migrate=False).open()
    async with SqliteQueueStorage(path) as storage:
        assert await state_of(storage, job) == "pending"
        assert "jobq_note" in tables(path)
        assert await storage.migrate("pre") == []
        assert await storage.migrate("post") == ["0003_post_no_notes"]
        assert "jobq_note" not in tables(path)
        assert await storage.migrate() == []


async def test_an_empty_file_gets_all_of_it_at_once(path: Path, know: Know) -> None:
    know(PRE, POST)
    assert await SqliteQueueStorage(path).migrate("pre") == ["0001_pre_jobs", "0002_pre_notes", "0003_post_no_notes"]


async def test_a_newer_schema_is_taken_as_long_as_older_code_works_on_it(path: Path, know: Know) -> None:
    know(PRE, POST)
    async with SqliteQueueStorage(path) as storage:
        await storage.migrate("pre")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM jobq_migration WHERE name = '0003_post_no_notes'")
    know()
    for migrate in (True, False):
        async with SqliteQueueStorage(path, migrate=migrate) as storage:
            await add_job(storage)
    assert await SqliteQueueStorage(path).migrate() == []


async def test_a_newer_schema_that_took_away_what_is_needed_is_refused(path: Path, know: Know) -> None:
    know(PRE, POST)
    async with SqliteQueueStorage(path) as storage:
        await storage.migrate()
    know()
    for migrate in (True, False):
        with pytest.raises(SchemaError, match=r"newer.*0003_post_no_notes"):
            await SqliteQueueStorage(path, migrate=migrate).open()
    with pytest.raises(SchemaError, match="newer"):
        await SqliteQueueStorage(path).migrate()


@pytest.mark.parametrize("table", ["jobq_job (a TEXT)", "jobq_worker (a TEXT)", "jobq_migration (a TEXT)"])
async def test_another_programs_table_of_the_same_name_is_named_and_left_alone(path: Path, table: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE {table}")
    before = tables(path)
    for attempt in (SqliteQueueStorage(path).open, SqliteQueueStorage(path).migrate):
        with pytest.raises(SchemaError, match=f"{table.split()[0]}.*rename"):
            await attempt()
    assert tables(path) == before


async def test_a_schema_that_lost_a_table_says_so(path: Path) -> None:
    async with SqliteQueueStorage(path) as storage:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DROP TABLE jobq_life")
        with pytest.raises(SchemaError, match="no such table: jobq_life"):
            await add_job(storage)


async def test_an_edited_migration_is_refused(path: Path, know: Know) -> None:
    know(PRE)
    async with SqliteQueueStorage(path):
        pass
    know(Migration(PRE.name, PRE.text + "-- never mind\n"))
    with pytest.raises(SchemaError, match="differs from the text"):
        await SqliteQueueStorage(path).open()
    with pytest.raises(SchemaError, match="differs from the text"):
        await SqliteQueueStorage(path).migrate()


async def test_jobs_survive_the_refusal_of_an_edited_migration(path: Path, know: Know) -> None:
    know(PRE)
    before = await filled(path)
    know(Migration(PRE.name, PRE.text + "-- never mind\n"))
    await refused(path, "0002_pre_notes of .* differs from the text that was applied")
    know(PRE)
    await go_on(path, before)


async def test_jobs_survive_the_refusal_of_a_schema_from_the_future(path: Path, know: Know) -> None:
    know(PRE, POST)
    before = await filled(path)
    know()
    await refused(path, r"newer.*0003_post_no_notes")
    know(PRE, POST)
    await go_on(path, before)


async def test_jobs_survive_the_refusal_of_tables_that_no_migration_is_recorded_for(path: Path, know: Know) -> None:
    know(PRE)
    before = await filled(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM jobq_migration WHERE name = ?", (PRE.name,))
    with pytest.raises(SchemaError, match=r"older than this code \(it lacks 0002_pre_notes\).*jobq migrate"):
        await SqliteQueueStorage(path, migrate=False).open()
    for attempt in (SqliteQueueStorage(path).open, SqliteQueueStorage(path).migrate):
        with pytest.raises(SchemaError, match=r"jobq_note already exists.*rename"):
            await attempt()
    know()
    await go_on(path, before)


@pytest.mark.parametrize("migrate", [True, False])
async def test_a_gap_is_filled_by_opening_or_refused_until_it_is_filled(path: Path, know: Know, migrate: bool) -> None:
    know(LATER)
    before = await filled(path)
    know(PRE, LATER)
    if not migrate:
        with pytest.raises(SchemaError, match=r"older than this code \(it lacks 0002_pre_notes\).*jobq migrate"):
            await SqliteQueueStorage(path, migrate=False).open()
        assert await SqliteQueueStorage(path).migrate() == [PRE.name]
    await go_on(path, before)
    assert "jobq_note" in tables(path)
    assert await SqliteQueueStorage(path).migrate() == []


async def test_a_worker_does_all_its_work_on_a_newer_schema_that_older_code_works_on(path: Path, know: Know) -> None:
    """One that was there before, and one that comes after."""
    before = await filled(path)
    async with SqliteQueueStorage(path) as there_before:
        await work_on(there_before, before)
        know(PRE, LATER)
        assert await SqliteQueueStorage(path).migrate() == [PRE.name, LATER.name]
        know()
        await work_on(there_before, [])
    await go_on(path, [record for record in before if record.state not in CLAIMABLE])


async def test_a_migration_that_fails_leaves_nothing_of_itself(path: Path, know: Know) -> None:
    async with SqliteQueueStorage(path):
        pass
    know(PRE, BROKEN)
    with pytest.raises(Exception, match="already exists"):
        await SqliteQueueStorage(path).migrate()
    assert not {"jobq_note", "jobq_b"} & tables(path)
    know(PRE)
    assert await SqliteQueueStorage(path).migrate() == ["0002_pre_notes"]


async def test_the_printed_sql_makes_what_migrate_makes(path: Path, tmp_path: Path) -> None:
    script = SqliteQueueStorage(path).migration_sql()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    async with SqliteQueueStorage(path, migrate=False) as storage:
        await add_job(storage)
    other = tmp_path / "other.db"
    await SqliteQueueStorage(other).migrate()
    schemas = []
    for file in (path, other):
        with closing(sqlite3.connect(file)) as connection:
            schemas.append(connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall())
            assert connection.execute("SELECT name FROM jobq_migration").fetchall() == [("0001_pre_jobs",)]
    assert schemas[0] == schemas[1]


def test_the_names_are_numbered_without_gaps() -> None:
    assert [step.name[:4] for step in migrations.known().steps] == [
        f"{number:04}" for number in range(1, len(migrations.known().steps) + 1)
    ]


async def filled(path: Path) -> list[JobRecord]:
    """Put jobs in all states but one into a file, and return them."""
    async with SqliteQueueStorage(path) as storage:
        return await fill(storage)


async def refused(path: Path, said: str) -> None:
    """See that neither opening nor migrating is possible."""
    storage = SqliteQueueStorage(path)
    for attempt in (storage.open, SqliteQueueStorage(path, migrate=False).open, storage.migrate):
        with pytest.raises(SchemaError, match=said):
            await attempt()


async def go_on(path: Path, before: list[JobRecord]) -> None:
    """See that these jobs are as they were, and that a worker claims, settles, loses and prunes them and others."""
    async with SqliteQueueStorage(path) as storage:
        await work_on(storage, before)
