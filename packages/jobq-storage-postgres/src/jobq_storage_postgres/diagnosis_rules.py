"""What of the facts about a database is wrong, and what cures it: pure functions of the rows of statements.

The thresholds are read when a function is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from psycopg.sql import Identifier, Literal

from jobq_core.storage import Finding, Severity
from jobq_storage_postgres.schedules import DEFAULT_BYTES, TOO_LARGE

PINNED_SECONDS: Final = 300.0
"""Age of a transaction from which on it is a finding that it keeps dead rows from being removed."""
PINNED_LONG_SECONDS: Final = 3600.0
"""Age from which on that is an error."""
PINNED_TRANSACTIONS: Final = 1_000_000
"""The same for a standby or a slot, whose age is known in transactions only."""
SLOT_BYTES: Final = 1024**3
"""Bytes of WAL that a slot which nobody reads may keep."""
IDLE_SECONDS: Final = 30.0
"""How long a session may be idle in a transaction with locks on tables of jobq; jobq's own are ended after 5 s."""
DEAD_ROWS: Final = 500_000
DEAD_SHARE: Final = 5.0
"""A table is bloated if it has so many dead rows, and this many times as many as live ones."""
CONNECTIONS_SHARE: Final = 0.9
"""Share of the connections that the server accepts."""
OLD_TRANSACTIONS: Final = 1_000_000_000
"""Age of the database in transactions; at some 2,100,000,000 the server refuses writes."""
USED_SHARE: Final = 0.9
"""Share of the numbers of a sequence."""
TALLY_ROWS: Final = 100_000
"""Rows of the tally; maintenance sums them up every few seconds."""
ENDED_SECONDS: Final = 600.0
"""How long the end of a followed job may wait to be taken up."""
LOSSY: Final = (
    "the server runs with {name}=off: a crash of its machine can lose acknowledged jobs, or the whole database"
)
"""Says what the settings fsync and full_page_writes risk."""

E, W = Severity.ERROR, Severity.WARNING
_BUSY_TABLES: Final = frozenset({"waiting", "ready", "running", "tally", "unique_key", "ended"})


def judge_horizon(rows: Sequence[Any], schema: str) -> Iterator[Finding]:
    """Sessions, prepared transactions, standbys and slots that keep dead rows."""
    for what, name, about, seconds, transactions in rows:
        old = seconds >= PINNED_SECONDS if seconds is not None else (transactions or 0) >= PINNED_TRANSACTIONS
        if not old:
            continue
        age = _span(seconds) if seconds is not None else f"{transactions:,} transactions"
        remedy = {
            "session": f"SELECT pg_terminate_backend({name})",
            "prepared": f"ROLLBACK PREPARED {_literal(name)} (or COMMIT PREPARED)",
            "standby": "ALTER SYSTEM SET hot_standby_feedback = off on the standby, or end its long query",
            "slot": f"SELECT pg_drop_replication_slot({_literal(name)}), if nothing reads it any more",
        }[what]
        shown = {"session": f"session {name}", "prepared": f"prepared transaction {name!r}"}.get(what, f"{what} {name}")
        yield Finding(
            code="xmin-pinned",
            severity=E if seconds is not None and seconds >= PINNED_LONG_SECONDS else W,
            subject=shown,
            message=f"{shown} ({about}) is {age} old, and keeps all rows that were deleted since: tables and indexes "
            "grow",
            remedy=remedy,
        )


def judge_slots(rows: Sequence[Any], schema: str) -> Iterator[Finding]:
    """Replication slots that nobody reads and that fill the disk."""
    for name, size in rows:
        if size is not None and size >= SLOT_BYTES:
            yield Finding(
                code="slot-keeps-wal",
                severity=W,
                subject=f"slot {name}",
                message=f"nothing reads replication slot {name}, which keeps {size / 1e6:,.0f} MB of WAL on the disk",
                remedy=f"start what reads it, or SELECT pg_drop_replication_slot({_literal(name)})",
            )


def judge_locks(rows: Sequence[Any], schema: str) -> Iterator[Finding]:
    """Sessions that do nothing in a transaction with locks on jobq's tables."""
    for pid, application, user, tables, seconds in rows:
        if seconds >= IDLE_SECONDS:
            yield Finding(
                code="idle-in-transaction",
                severity=W,
                subject=f"session {pid}",
                message=f"session {pid} (application {application!r}, user {user}) has been idle in a transaction for "
                f"{_span(seconds)}, with locks on {tables}: others may wait for its rows, and a migration for it",
                remedy=f"SELECT pg_terminate_backend({pid}); set idle_in_transaction_session_timeout for its role",
            )


def judge_server(rows: Sequence[Any], schema: str) -> Iterator[Finding]:
    """What holds for the server or the database as a whole."""
    ((standby, read_only, connections, most, age, multixact_age, default_size, has_partition),) = rows
    if standby or read_only:
        why = "the server is a standby" if standby else "transactions are read-only"
        message = f"{why}: nothing can be added, claimed or settled"
        cure = "point the storage's URL at the primary (?target_session_attrs=read-write finds it among several hosts)"
        remedy = cure if standby else "reset default_transaction_read_only for the database and the role"
        yield Finding(code="read-only", severity=E, subject="server", message=message, remedy=remedy)
    if connections >= CONNECTIONS_SHARE * most:
        yield Finding(
            code="connections",
            severity=W,
            subject="max_connections",
            message=f"{connections:,} of {most:,} connections are in use: soon workers and clients get none",
            remedy="lower pool_size, put a pooler in between, or raise max_connections and restart the server",
        )
    for number, what in ((age, "transactions"), (multixact_age, "multixacts")):
        if number >= OLD_TRANSACTIONS:
            yield Finding(
                code="wraparound",
                severity=E,
                subject="database",
                message=f"the oldest unfrozen row is {number:,} {what} old; at some 2,100,000,000 the server takes no "
                "more writes",
                remedy="end what holds back vacuum (see xmin-pinned), then VACUUM (FREEZE) the largest tables",
            )
    if default_size > DEFAULT_BYTES:
        remedy = "VACUUM FULL " + ", ".join(f"{schema}.{name}_default" for name in ("job", "outcome", "job_log"))
        yield Finding(code="default-partition", severity=W, subject="job_default", message=TOO_LARGE, remedy=remedy)
    elif not has_partition:
        yield Finding(
            code="missing-partition",
            severity=W,
            subject="job",
            message="there is no partition for the jobs of today: they go to the default one, and pruning frees no "
            "disk space",
            remedy=f"start a worker, whose maintenance makes it, or SELECT {schema}.make_partitions()",
        )


def judge_settings(rows: Sequence[Any], schema: str) -> Iterator[Finding]:
    """Settings that undo promises."""
    now = {name: value for name, value, _ in rows}
    begins = {name: value for name, _, value in rows}
    for name in ("fsync", "full_page_writes"):
        if now.get(name) == "off":
            yield Finding(
                code="unsafe-settings",
                severity=E,
                subject=name,
                message=LOSSY.format(name=name),
                remedy=f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()",
            )
    if now.get("synchronous_commit") == "off" or begins.get("synchronous_commit") == "off":
        own = now["synchronous_commit"] == "off"
        yield Finding(
            code="unsafe-settings",
            severity=E if own else W,
            subject="synchronous_commit",
            message="synchronous_commit is off"
            + (": acknowledged jobs" if own else " by default: jobs that are added in a caller's own transaction")
            + " can be lost in a crash of the server",
            remedy="ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf(); look at the database's and the "
            "roles' settings, and at options= in the DSN, too",
        )
    for name in ("autovacuum", "track_counts"):
        if now.get(name) == "off":
            yield Finding(
                code="autovacuum-off",
                severity=E,
                subject=name,
                message=f"{name} is off: dead rows are never removed, and tables grow without end",
                remedy=f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()",
            )


def judge_tables(rows: Sequence[Any], schema: str) -> Iterator[Finding]:
    """Tables that are not vacuumed, that are bloated, or that hide rows."""
    for name, live, dead, off, row_security in rows:
        table = f"{schema}.{_identifier(name)}"
        if off:
            yield Finding(
                code="autovacuum-off",
                severity=E,
                subject=name,
                message=f"autovacuum is off for table {name}: its dead rows are never removed",
                remedy=f"ALTER TABLE {table} RESET (autovacuum_enabled)",
            )
        if name in _BUSY_TABLES and dead >= DEAD_ROWS and dead >= DEAD_SHARE * live:
            yield Finding(
                code="bloat",
                severity=W,
                subject=name,
                message=f"table {name} has {dead:,} dead rows beside {live:,} live ones: counts and lists read them",
                remedy=f"end what holds them back (see xmin-pinned), then VACUUM {table}",
            )
        if row_security:
            yield Finding(
                code="row-security",
                severity=E,
                subject=name,
                message=f"row level security is on for table {name}, which refuses every role except its owner",
                remedy=f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, or ALTER ROLE … BYPASSRLS",
            )


def judge_indexes(rows: Sequence[Any], schema: str) -> Iterator[Finding]:
    """Indexes that the server does not use."""
    for (name,) in rows:
        yield Finding(
            code="invalid-index",
            severity=E,
            subject=name,
            message=f"index {name} is not valid: statements that need it read whole tables",
            remedy=f"REINDEX INDEX {schema}.{_identifier(name)}",
        )


def judge_sequences(rows: Sequence[Any], schema: str) -> Iterator[Finding]:
    """Sequences near their end."""
    for name, used in rows:
        if used is not None and used >= USED_SHARE:
            yield Finding(
                code="sequence-end",
                severity=E,
                subject=name,
                message=f"{used:.0%} of the numbers of sequence {name} are used up; without any left, nothing is added "
                "or claimed",
                remedy="someone has set it: while no job is unfinished and all workers are stopped, "
                f"SELECT setval('{schema}.{name}', 1)",
            )


def judge_tally(rows: Sequence[Any], schema: str) -> Iterator[Finding]:
    """A tally that nobody sums up."""
    ((count,),) = rows
    if count > TALLY_ROWS:
        yield Finding(
            code="not-pruned",
            severity=W,
            subject="tally",
            message=f"more than {TALLY_ROWS:,} rows of the tally are not summed up: no maintenance runs, finished jobs "
            "are kept, and counts become slow",
            remedy="start a worker, which does the maintenance, or look for its errors in the workers' logs",
        )


def judge_ended(rows: Sequence[Any], schema: str) -> Iterator[Finding]:
    """Ends of followed jobs that nobody takes up."""
    ((seconds,),) = rows
    if seconds is not None and seconds >= ENDED_SECONDS:
        yield Finding(
            code="ends-not-resolved",
            severity=E,
            subject="ended",
            message=f"jobs that others wait for ended {_span(seconds)} ago, and nothing followed",
            remedy="start a worker, which does the maintenance, or look for its errors in the workers' logs",
        )


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _literal(text: str) -> str:
    return Literal(text).as_string(None)


def _identifier(name: str) -> str:
    return Identifier(name).as_string(None)
