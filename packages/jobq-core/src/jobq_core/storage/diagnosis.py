"""The facet of diagnosis: what a storage knows to be wrong with itself."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Severity(StrEnum):
    """How bad a finding is: a promise does not hold, or will not for long; or it is worth knowing."""

    ERROR = "error"
    WARNING = "warning"


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that is wrong.

    code: a stable name, such as 'xmin-pinned', by which docs and alerts know it.
    subject: what it is about: a table, a session, a queue, a worker, a setting.
    message: one sentence that says what is wrong, with the figures. remedy: the command, or the SQL, that cures it.
    """

    code: str
    severity: Severity
    subject: str
    message: str
    remedy: str


class DiagnosisStorage:
    """What examines a storage. A storage without it finds nothing."""

    async def diagnose(self) -> list[Finding]:
        """Examine the database: its schema, settings, sessions, tables and clock; errors first.

        Reads only, and in bounded time. A healthy storage gives an empty list. What this user may not read is left out.
        """
        return []

    async def oldest_transaction(self) -> float | None:
        """Return the age in seconds of the oldest open transaction of the database, which keeps the rows that it may
        see from being removed; 0 without any, None where that is not known or does no harm.

        Transactions of other users are left out where this user may not see them.
        """
        return None
