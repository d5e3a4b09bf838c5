"""Numbered migrations: their files, what a database lacks of them, and which databases are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobq_core.errors import SchemaError
from jobq_core.migrations import Migration, Migrations

TABLES = Migration("0001_pre_tables", "CREATE TABLE job (id);")
INDEX = Migration("0002_pre_index", "CREATE INDEX i ON job (id);")
CLEANUP = Migration("0003_post_cleanup", "DROP TABLE old;")
KNOWN = Migrations("jobq-storage-x", (TABLES, INDEX, CLEANUP))
WHERE = "file /srv/jobs.db"


def applied(*steps: Migration) -> dict[str, str]:
    return {step.name: step.checksum for step in steps}


def test_the_sql_files_of_a_folder_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for step in (CLEANUP, TABLES, INDEX):
        (tmp_path / f"{step.name}.sql").write_text(step.text)
    (tmp_path / "__init__.py").touch()
    assert Migrations.read(tmp_path, "jobq-storage-x") == KNOWN


@pytest.mark.parametrize("name", ["tables", "1_pre_tables", "0001_tables", "0001_later_tables", "0001_pre_Tables"])
def test_a_file_without_number_or_phase_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.sql").touch()
    with pytest.raises(SchemaError, match=f"migration {name}.sql is not named"):
        Migrations.read(tmp_path, "jobq-storage-x")


def test_the_migrations_of_a_phase_that_are_not_applied_are_to_be_applied() -> None:
    assert KNOWN.to_apply(None, "all", WHERE) == [TABLES, INDEX, CLEANUP]
    assert KNOWN.to_apply({}, "pre", WHERE) == [TABLES, INDEX]
    assert KNOWN.to_apply(applied(TABLES), "pre", WHERE) == [INDEX]
    assert KNOWN.to_apply(applied(TABLES), "post", WHERE) == [CLEANUP]
    assert KNOWN.to_apply(applied(TABLES, INDEX, CLEANUP), "all", WHERE) == []


def test_a_database_without_tables_is_refused_with_the_remedy() -> None:
    for nothing in (None, applied()):
        with pytest.raises(SchemaError, match=r"file /srv/jobs\.db has no tables of jobq: run `jobq migrate`"):
            KNOWN.require(nothing, WHERE)


def test_a_database_that_lacks_a_pre_migration_is_refused_by_its_name() -> None:
    with pytest.raises(SchemaError, match=r"older than this code \(it lacks 0002_pre_index\): run `jobq migrate`"):
        KNOWN.require(applied(TABLES), WHERE)


def test_a_database_that_lacks_only_post_migrations_is_accepted() -> None:
    KNOWN.require(applied(TABLES, INDEX), WHERE)


def test_a_newer_database_is_accepted_as_long_as_its_migrations_let_older_code_work() -> None:
    newer = {**applied(TABLES, INDEX, CLEANUP), "0004_pre_more": "checksum"}
    KNOWN.require(newer, WHERE)
    assert KNOWN.to_apply(newer, "all", WHERE) == []
    newer["0005_post_less"] = "checksum"
    with pytest.raises(SchemaError, match=r"newer than this code \(it has 0005_post_less\): upgrade jobq-storage-x"):
        KNOWN.require(newer, WHERE)
    with pytest.raises(SchemaError, match=r"newer than this code \(it has 0005_post_less\)"):
        KNOWN.to_apply(newer, "pre", WHERE)


def test_an_applied_migration_with_another_text_is_refused_by_its_name() -> None:
    edited = applied(TABLES, Migration(INDEX.name, INDEX.text + " "))
    with pytest.raises(
        SchemaError, match=r"migration 0002_pre_index of file /srv/jobs\.db differs from the text that was applied"
    ):
        KNOWN.require(edited, WHERE)
    with pytest.raises(SchemaError, match="0002_pre_index"):
        KNOWN.to_apply(edited, "post", WHERE)
