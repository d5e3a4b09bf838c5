"""The diagnosis finds nothing in a healthy database, and names each illness that is planted, and its cure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, LiteralString

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from jobq_core.migrations import Migration, Migrations
from jobq_core.storage import Finding, Severity
from jobq_core.testing import new_job
from jobq_storage_postgres import PostgresQueueStorage, diagnosis_rules, migrations
from jobq_storage_postgres.testing import ThrowawayPostgres

SAFE = {
    "fsync": "on",
    "full_page_writes": "on",
    "wal_level": "logical",
    "max_prepared_transactions": "2",
    "autovacuum_naptime": "1h",  # it would cure what is planted
}


@pytest.fixture(scope="module")
def server() -> Iterator[ThrowawayPostgres]:
    """A server as in production, with what is needed to plant each illness."""
    with ThrowawayPostgres(settings=SAFE) as server:
        yield server


class Patient:
    """A database of its own, and a storage in it."""

    def __init__(self, storage: PostgresQueueStorage, dsn: str) -> None:
        self.storage = storage
        self.dsn = dsn

    async def run(self, text: LiteralString, *values: Any) -> list[Any]:
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            cursor = await connection.execute(sql.SQL(text), values or None)
            return await cursor.fetchall() if cursor.description else []

    async def finding(self, code: str) -> Finding:
        """Return the only finding, which has this code."""
        (found,) = await self.storage.diagnose()
        assert found.code == code
        return found


@pytest.fixture(scope="module")
def database(server: ThrowawayPostgres) -> str:
    """A migrated database, which each test leaves as healthy as it was."""
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute("CREATE DATABASE patient")
    dsn = server.dsn.replace("/postgres?", "/patient?", 1)
    asyncio.run(PostgresQueueStorage(dsn).migrate())
    return dsn


@pytest_asyncio.fixture
async def patient(database: str) -> AsyncIterator[Patient]:
    async with PostgresQueueStorage(database) as storage:
        yield Patient(storage, database)
    async with PostgresQueueStorage(database) as storage:
        assert await storage.diagnose() == []


async def test_a_healthy_database_gives_no_findings(patient: Patient) -> None:
    assert await patient.storage.diagnose() == []
    await patient.storage.add([new_job() for _ in range(100)])
    await patient.storage.prune()
    await patient.storage.sample_depths()
    assert await patient.storage.diagnose() == []


# What keeps dead rows


async def test_a_session_that_pins_the_horizon_is_named_and_can_be_ended(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis_rules, "PINNED_SECONDS", 0.0)
    async with await psycopg.AsyncConnection.connect(patient.dsn, application_name="report o'night") as pin:
        await pin.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await pin.execute("SELECT 1 FROM pg_class")
        found = await patient.finding("xmin-pinned")
        assert f"session {pin.info.backend_pid} (application 'report o''night', user postgres" in found.message
        assert found.severity is Severity.WARNING
        monkeypatch.setattr(diagnosis_rules, "PINNED_LONG_SECONDS", 0.0)
        assert (await patient.finding("xmin-pinned")).severity is Severity.ERROR
        await patient.run(found.remedy)  # type: ignore[arg-type]
        with pytest.raises(psycopg.OperationalError):
            await pin.execute("SELECT 1")


async def test_a_prepared_transaction_is_named_and_can_be_ended(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis_rules, "PINNED_SECONDS", 0.0)
    await patient.run("BEGIN; CREATE TABLE t (); PREPARE TRANSACTION 'it''s'")
    found = await patient.finding("xmin-pinned")
    assert found.subject == 'prepared transaction "it\'s"'
    assert found.remedy == "ROLLBACK PREPARED 'it''s' (or COMMIT PREPARED)"
    await patient.run("ROLLBACK PREPARED 'it''s'")


async def test_a_replication_slot_is_named_and_can_be_dropped(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await patient.run("SELECT pg_create_logical_replication_slot('old', 'pgoutput')")
    try:
        assert await patient.storage.diagnose() == []
        monkeypatch.setattr(diagnosis_rules, "PINNED_TRANSACTIONS", 0)
        found = await patient.finding("xmin-pinned")
        assert (found.subject, "SELECT pg_drop_replication_slot('old')" in found.remedy) == ("slot old", True)
        monkeypatch.undo()
        monkeypatch.setattr(diagnosis_rules, "SLOT_BYTES", 0)
        found = await patient.finding("slot-keeps-wal")
        assert "SELECT pg_drop_replication_slot('old')" in found.remedy
    finally:
        await patient.run("SELECT pg_drop_replication_slot('old')")


async def test_a_session_that_idles_with_locks_on_jobs_is_named(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis_rules, "IDLE_SECONDS", 0.0)
    async with await psycopg.AsyncConnection.connect(patient.dsn, application_name="psql") as idle:
        await idle.execute("SELECT 1")  # no lock on a table of jobq
        assert await patient.storage.diagnose() == []
        await idle.execute("LOCK TABLE jobq.ready IN ROW EXCLUSIVE MODE")
        found = await patient.finding("idle-in-transaction")
        assert "application 'psql', user postgres" in found.message
        assert "locks on ready" in found.message
        assert f"pg_terminate_backend({idle.info.backend_pid})" in found.remedy


# The server and its settings


@pytest.mark.parametrize(
    ("name", "code"),
    [("fsync", "unsafe-settings"), ("full_page_writes", "unsafe-settings"), ("autovacuum", "autovacuum-off")],
)
async def test_a_setting_that_undoes_promises_is_found(patient: Patient, name: str, code: str) -> None:
    # The server of the tests has it on.
    rows = await patient.storage._engine.fetch("diagnose_settings")
    assert list(diagnosis_rules.judge_settings(rows, "jobq")) == []
    planted = [(each, "off" if each == name else value, value) for each, value, _ in rows]
    assert planted != rows
    (found,) = diagnosis_rules.judge_settings(planted, "jobq")
    assert (found.code, found.severity, found.subject) == (code, Severity.ERROR, name)
    for statement in found.remedy.split("; "):
        await patient.run(statement)  # type: ignore[arg-type]


async def test_commits_that_are_not_flushed_are_found(patient: Patient) -> None:
    await patient.run("ALTER DATABASE patient SET synchronous_commit = off")
    for options, severity in (("", Severity.WARNING), ("&options=-csynchronous_commit%3Doff", Severity.ERROR)):
        async with PostgresQueueStorage(patient.dsn + options) as storage:
            (found,) = await storage.diagnose()
            assert (found.code, found.subject, found.severity) == ("unsafe-settings", "synchronous_commit", severity)
    await patient.run("ALTER DATABASE patient RESET synchronous_commit")


async def test_a_database_that_cannot_be_written_is_found(patient: Patient) -> None:
    await patient.run("ALTER DATABASE patient SET default_transaction_read_only = on")
    async with PostgresQueueStorage(patient.dsn) as storage:
        (found,) = await storage.diagnose()
        assert (found.code, found.severity) == ("read-only", Severity.ERROR)
        assert "transactions are read-only" in found.message
    async with await psycopg.AsyncConnection.connect(patient.dsn, autocommit=True) as connection:
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute("ALTER DATABASE patient RESET default_transaction_read_only")


@pytest.mark.parametrize(
    ("threshold", "code"),
    [("CONNECTIONS_SHARE", "connections"), ("OLD_TRANSACTIONS", "wraparound"), ("DEFAULT_BYTES", "default-partition")],
)
async def test_a_server_near_a_limit_is_found(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, threshold: str, code: str
) -> None:
    monkeypatch.setattr(diagnosis_rules, threshold, -1)
    assert {found.code for found in await patient.storage.diagnose()} == {code}


async def test_notifications_that_do_not_arrive_are_found(patient: Patient) -> None:
    async with PostgresQueueStorage(patient.dsn, listen_dsn="postgresql://postgres@/patient?host=/nowhere") as storage:
        (found,) = await storage.diagnose()
        assert (found.code, found.subject) == ("no-notifications", "listen_dsn")


# The schema


async def test_a_missing_partition_is_found_and_can_be_made(patient: Patient) -> None:
    names = await patient.run("SELECT relname FROM pg_class WHERE relname ~ '^(job|outcome|job_log)_[0-9]{8}$'")
    for (name,) in names:
        await patient.run(f'DROP TABLE jobq."{name}"')  # type: ignore[arg-type]
    found = await patient.finding("missing-partition")
    await patient.run(found.remedy.split(", or ")[1])  # type: ignore[arg-type]


async def test_a_table_without_autovacuum_is_found_and_can_be_cured(patient: Patient) -> None:
    await patient.run("ALTER TABLE jobq.running SET (autovacuum_enabled = off)")
    found = await patient.finding("autovacuum-off")
    assert found.subject == "running"
    await patient.run(found.remedy)  # type: ignore[arg-type]


async def test_a_bloated_table_is_found_and_can_be_vacuumed(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis_rules, "DEAD_ROWS", 900)
    async with await psycopg.AsyncConnection.connect(patient.dsn, autocommit=True) as connection:
        await connection.execute(
            "INSERT INTO jobq.ended SELECT gen_random_uuid(), now(), 'q' FROM generate_series(1, 1000)"
        )
        await connection.execute("DELETE FROM jobq.ended")
        await connection.execute("SELECT pg_stat_force_next_flush()")
    found = await patient.finding("bloat")
    assert (found.subject, "1,000 dead rows beside 0 live ones" in found.message) == ("ended", True)
    await patient.run("VACUUM jobq.ended")


async def test_row_level_security_is_found_and_can_be_switched_off(patient: Patient) -> None:
    await patient.run("ALTER TABLE jobq.job ENABLE ROW LEVEL SECURITY")
    found = await patient.finding("row-security")
    await patient.run(found.remedy.split(", or ")[0])  # type: ignore[arg-type]


async def test_an_invalid_index_is_found_and_can_be_rebuilt(patient: Patient) -> None:
    await patient.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'jobq.waiting_due'::regclass")
    found = await patient.finding("invalid-index")
    assert found.subject == "waiting_due"
    await patient.run(found.remedy)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["position", "lease"])
async def test_a_sequence_near_its_end_is_found(patient: Patient, name: str) -> None:
    await patient.run("SELECT setval(%s, 9200000000000000000)", f"jobq.{name}")
    found = await patient.finding("sequence-end")
    assert (found.subject, "100% of the numbers" in found.message) == (name, True)
    await patient.run("SELECT setval(%s, 1)", f"jobq.{name}")


async def test_a_schema_that_is_behind_is_found(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    known = migrations.known()
    newer = Migrations(known.package, (*known.steps, Migration("0002_post_next", "SELECT 1")))
    monkeypatch.setattr(migrations, "known", lambda: newer)
    found = await patient.finding("schema-behind")
    assert "0002_post_next is not applied" in found.message
    await patient.storage.migrate()
    assert await patient.storage.diagnose() == []
    await patient.run("DELETE FROM jobq.migration WHERE name = '0002_post_next'")


async def test_a_schema_that_is_ahead_is_found(patient: Patient) -> None:
    await patient.run("INSERT INTO jobq.migration (name, checksum) VALUES ('0002_pre_next', '')")
    assert "it has 0002_pre_next" in (await patient.finding("schema-ahead")).message
    await patient.run("DELETE FROM jobq.migration WHERE name = '0002_pre_next'")


# The maintenance


async def test_a_tally_that_is_not_summed_up_is_found(patient: Patient) -> None:
    await patient.run(
        "INSERT INTO jobq.tally (finished, queue, kind, state) SELECT 0, 'q', 'k', 'completed' FROM "
        "generate_series(1, 100001)"
    )
    assert (await patient.finding("not-pruned")).subject == "tally"
    await patient.storage.prune()


async def test_ends_of_followed_jobs_that_are_not_taken_up_are_found(patient: Patient) -> None:
    await patient.run("INSERT INTO jobq.ended (id, at, queue) VALUES (gen_random_uuid(), now() - interval '1 h', 'q')")
    found = await patient.finding("ends-not-resolved")
    assert "ended 60 min ago" in found.message
    await patient.storage.resolve()


async def test_what_a_role_may_not_read_is_left_out(
    patient: Patient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await patient.run("CREATE ROLE web LOGIN")
    try:
        await patient.storage.grant({"producer": ["web"]})
        monkeypatch.setattr(diagnosis_rules, "OLD_TRANSACTIONS", 0)
        async with PostgresQueueStorage(patient.dsn.replace("postgres@", "web@", 1)) as storage:
            assert {found.code for found in await storage.diagnose()} == {"wraparound"}
        assert "leaves out diagnose_tally: role 'web' lacks a privilege" in caplog.text
    finally:
        await patient.run("DROP OWNED BY web")
        await patient.run("DROP ROLE web")
