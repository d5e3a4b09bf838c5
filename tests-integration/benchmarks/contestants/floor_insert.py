"""The minimum of adding: a row in one table, from which no worker could claim it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import floor_postgres
import psycopg
from protocol import Adder, main
from uuid_utils.compat import uuid7

TABLE = """
CREATE TABLE plain (id uuid PRIMARY KEY, created_at timestamptz NOT NULL, kind text NOT NULL, arguments json NOT NULL)
"""
ONE = "INSERT INTO plain VALUES (%s, clock_timestamp(), %s, %s)"
MANY = """
INSERT INTO plain SELECT t.id, clock_timestamp(), %s, t.arguments
FROM json_to_recordset(%s::json) AS t(id uuid, arguments json)
"""


class FloorInsert(floor_postgres.FloorPostgres):
    """A plain INSERT; in bulk, one recordset."""

    name = "plain insert"
    can = frozenset({"add", "group", "many"})

    def setup(self) -> None:
        """Make the table."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(TABLE)

    def adder(self, payload: int) -> Adder:
        """Add with a connection."""
        return InsertAdder(self.url, "x" * payload)


class InsertAdder(floor_postgres.FloorAdder):
    """Adds rows to one table."""

    async def _add(self, numbers: Sequence[int]) -> None:
        if len(numbers) == 1:
            arguments = json.dumps({"n": numbers[0], "text": self.text})
            await self._cursor.execute(ONE, (uuid7(), "nothing", arguments), prepare=True)
        else:
            jobs = [{"id": str(uuid7()), "arguments": {"n": n, "text": self.text}} for n in numbers]
            await self._cursor.execute(MANY, ("nothing", json.dumps(jobs)), prepare=True)


if __name__ == "__main__":
    main(FloorInsert)
