"""The sessions of a PostgreSQL server, by the name of their application."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psycopg


async def none_left(
    connection: psycopg.AsyncConnection[Any], application: str, condition: str = "datname = current_database()"
) -> None:
    """Wait until no session of an application meets the condition: the server may take a moment to notice a lost
    connection, and may still execute what one sent that was cut."""
    until = time.monotonic() + 20
    query = f"SELECT state, query FROM pg_stat_activity WHERE application_name = %s AND {condition}".encode()
    while left := await (await connection.execute(query, (application,))).fetchall():
        assert time.monotonic() < until, f"still there: {left}"
        await asyncio.sleep(0.002)
