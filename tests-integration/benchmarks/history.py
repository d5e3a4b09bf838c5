"""Write millions of finished jobs as jobq would leave them."""

from __future__ import annotations

from pathlib import Path

import psycopg

STATEMENT = Path(__file__).with_name("history_postgres.sql")


def write_history(url: str, jobs: int) -> None:
    """Write finished jobs into jobq's tables on PostgreSQL, in the order in which they ended."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(STATEMENT.read_text(), {"jobs": jobs})  # type: ignore[arg-type]
