"""`Address`: where connections lead, and with which password each one is made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

import psycopg
from msgspec import Struct

Password: TypeAlias = "Callable[[], str]"
"""Returns the password of a new connection."""


class Address(Struct, frozen=True):
    """The parameters of a connection.

    conninfo: as `dsn.parse` returns it. password: called for each new connection, in a thread if it may block the event
    loop, for passwords that expire, such as the tokens of a cloud's IAM (default: the conninfo's password).
    """

    conninfo: dict[str, Any]
    password: Password | None = None

    def complete(self) -> dict[str, Any]:
        """Return the conninfo with the password. Raises psycopg.OperationalError if `password` fails."""
        if self.password is None:
            return self.conninfo
        try:
            password = self.password()
        except BaseException as error:
            raise psycopg.OperationalError(f"password= raised {type(error).__name__}") from error
        if not isinstance(password, str):
            raise psycopg.OperationalError(f"password= must return text, not {type(password)}")
        return {**self.conninfo, "password": password}

    async def complete_async(self) -> dict[str, Any]:
        """Do as `complete`, without blocking the event loop."""
        return self.conninfo if self.password is None else await asyncio.to_thread(self.complete)
