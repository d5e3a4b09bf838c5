"""Marks on tokens that no code of this version knows: a flag and a member of `extra`, as a newer version may write.

Every transition must carry them, or an older worker would lose what a newer one wrote.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from pathlib import Path
from uuid import UUID

from .parties import PostgresSchema

FLAG = 1 << 10
TABLES = ("waiting", "ready", "running", "outcome")


async def mark_on_postgres(schema: PostgresSchema, jobs: Collection[UUID]) -> None:
    """Mark jobs, wherever their tokens are."""
    for table in TABLES:
        for job in jobs:
            await schema.execute(
                f"UPDATE {{}}.{table} SET flags = flags | {FLAG}, "
                "extra = coalesce(extra, jsonb_build_object()) || jsonb_build_object('newer', jsonb_build_array(1)) "
                f"WHERE id = '{job}'"
            )


async def marked_on_postgres(schema: PostgresSchema) -> set[UUID]:
    """Return the jobs that have both marks."""
    query = " UNION ALL ".join(
        f"SELECT id FROM {{}}.{table} WHERE flags & {FLAG} <> 0 AND extra -> 'newer' = '[1]'" for table in TABLES
    )
    return {row[0] for row in await schema.fetch(query)}


def mark_on_sqlite(path: Path, jobs: Collection[UUID]) -> None:
    """Mark jobs in a file."""
    connection = sqlite3.connect(path, isolation_level=None)
    for job in jobs:
        connection.execute(
            f"UPDATE jobq_life SET flags = flags | {FLAG}, extra = json_set(coalesce(extra, '{{}}'), '$.newer', "
            "json('[1]')) WHERE n = (SELECT n FROM jobq_job WHERE id = ?)",
            (job.bytes,),
        )
    connection.close()


def marked_on_sqlite(path: Path) -> set[UUID]:
    """Return the jobs that have both marks."""
    connection = sqlite3.connect(path)
    rows = connection.execute(
        f"SELECT id FROM jobq_life JOIN jobq_job USING (n) WHERE flags & {FLAG} AND extra ->> '$.newer' = '[1]'"
    ).fetchall()
    connection.close()
    return {UUID(bytes=row[0]) for row in rows}
