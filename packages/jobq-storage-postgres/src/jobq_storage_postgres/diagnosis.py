"""The facet of diagnosis: what PostgreSQL says of its sessions, tables and settings, and what of it is wrong.

Each check is one statement, so that one that this role may not run leaves out no other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from psycopg.errors import InsufficientPrivilege
from psycopg.sql import Identifier

from jobq_core.errors import StorageError
from jobq_core.storage import DiagnosisStorage, Finding, NotificationStorage, Severity
from jobq_storage_postgres import diagnosis_rules as rules
from jobq_storage_postgres import migrations
from jobq_storage_postgres.binary import Params, pack_int8
from jobq_storage_postgres.engine import Facet
from jobq_storage_postgres.errors import caused_by

_log = logging.getLogger("jobq.postgres")

Judge: TypeAlias = "Callable[[Sequence[Any], str], Iterable[Finding]]"
"""Judges the rows of a statement; the text is the quoted name of the schema."""


def _schema(rows: Sequence[Any], schema: str) -> Iterator[Finding]:
    """Migrations that are not applied, or not known."""
    applied = {name for name, _ in rows}
    known = [step.name for step in migrations.known().steps]
    behind = [name for name in known if name not in applied]
    ahead = sorted(applied.difference(known))
    if behind:
        message = f"the schema is behind this code: {', '.join(behind)} is not applied"
        remedy = "jobq migrate, once no older code uses the database"
        yield Finding(code="schema-behind", severity=Severity.WARNING, subject=schema, message=message, remedy=remedy)
    if ahead:
        message = f"the schema is ahead of this code: it has {', '.join(ahead)}"
        remedy = f"upgrade {migrations.known().package} here"
        yield Finding(code="schema-ahead", severity=Severity.WARNING, subject=schema, message=message, remedy=remedy)


_CHECKS: Final[Sequence[tuple[str, Params, Judge]]] = (
    ("diagnose_horizon", (), rules.judge_horizon),
    ("diagnose_slots", (), rules.judge_slots),
    ("diagnose_locks", (), rules.judge_locks),
    ("diagnose_server", (), rules.judge_server),
    ("diagnose_settings", (), rules.judge_settings),
    ("diagnose_tables", (), rules.judge_tables),
    ("diagnose_indexes", (), rules.judge_indexes),
    ("diagnose_sequences", (), rules.judge_sequences),
    ("diagnose_tally", (pack_int8(rules.TALLY_ROWS + 1),), rules.judge_tally),
    ("diagnose_ended", (), rules.judge_ended),
    ("applied", (), _schema),
)


class Diagnosis(Facet, DiagnosisStorage, NotificationStorage):
    """Examines the server, this session and the schema."""

    async def diagnose(self) -> list[Finding]:
        schema = Identifier(self._engine.settings.schema).as_string(None)
        found: list[Finding] = []
        for name, params, judge in _CHECKS:
            try:
                rows = await self._engine.fetch(name, *params)
            except StorageError as error:
                if not caused_by(error, InsufficientPrivilege):
                    raise
                _log.warning("the diagnosis leaves out %s: %s", name, error)
            else:
                found += judge(rows, schema)
        found += await self._listening()
        return sorted(found, key=lambda finding: finding.severity is not Severity.ERROR)

    async def _listening(self) -> list[Finding]:
        """Try to listen: a pooler may pass no notifications on."""
        async with self.subscribe(["diagnosis"]):
            if self.hears_notifications:
                return []
        return [
            Finding(
                code="no-notifications",
                severity=Severity.WARNING,
                subject="listen_dsn",
                message="notifications do not arrive, as behind a pooler in transaction mode: workers find new jobs by "
                "polling, up to a second late",
                remedy="set listen_dsn to an address of the server itself, or of a pooler in session mode",
            )
        ]
