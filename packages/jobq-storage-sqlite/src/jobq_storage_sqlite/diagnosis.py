"""Diagnosis: what is wrong with the file, its folder and its disk, and what cures it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from typing import Final

from jobq_core.errors import StorageError, StorageUnavailableError
from jobq_core.storage import DiagnosisStorage, Finding, Severity
from jobq_core.storage.statistics import STEPS
from jobq_storage_sqlite import file_checks, migrations
from jobq_storage_sqlite.errors import code_of
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.reader import write_nothing
from jobq_storage_sqlite.tally import MINUTE

LOCKED_SECONDS: Final = 5.0
"""How long it may take to get the write lock. The longest transactions of jobq take some 10 ms."""

CHECKED_BYTES: Final = 32 * 1024 * 1024
"""The size of a file up to which its integrity is checked, which takes some 0.1 s; nobody reads meanwhile."""

FREE_SHARE: Final = 0.5
FREE_BYTES: Final = 64 * 1024 * 1024
"""A file wastes space if this share of it is free, and so many bytes at least."""

UNDONE_MINUTES: Final = 24 * 60
"""How much longer than they are kept statistics may be there."""

E, W = Severity.ERROR, Severity.WARNING


class Diagnosis(StorageOnFile, DiagnosisStorage):
    """Examines the file through the reader, and its files from outside."""

    synchronous: str
    busy_timeout: float

    async def diagnose(self) -> list[Finding]:
        found = await asyncio.to_thread(file_checks.examine, self.path)
        unusable = await self._find_unusable()
        # What cannot be used cannot be read either.
        found += [unusable] if unusable is not None else await self._examine_content()
        return sorted(found, key=lambda finding: finding.severity is not E)

    async def _find_unusable(self) -> Finding | None:
        """Take the write lock for a moment, by which the files are compared with those at the path, too."""
        seconds = min(LOCKED_SECONDS, self.busy_timeout)
        try:
            async with asyncio.timeout(seconds):
                await self._write(write_nothing)
        except TimeoutError:
            return await self._locked(seconds)
        except StorageUnavailableError as error:
            if _code(error) == sqlite3.SQLITE_BUSY:
                return await self._locked(seconds)
            return Finding(
                code="file-unusable",
                severity=E,
                subject=str(self.path),
                message=str(error),
                remedy="put the file back, or stop all processes that use it and start them again, as the message says",
            )
        return None

    async def _locked(self, seconds: float) -> Finding:
        holders = await asyncio.to_thread(file_checks.writers, self.path)
        return Finding(
            code="write-lock-held",
            severity=E,
            subject=str(self.path),
            message=f"the write lock was not available for {seconds:g} s{_named(holders)}: nothing can be added, "
            "claimed or settled",
            remedy="let the process that holds it finish its transaction, or end it; one that was stopped (SIGSTOP, a "
            "debugger) holds the lock until it continues",
        )

    async def _examine_content(self) -> list[Finding]:
        try:
            ((pages, size, free),) = await self._read("count_pages")
            return [
                *self._synchronous(),
                *_free(str(self.path), pages * size, free * size),
                *await self._damage(pages * size),
                *await self._schema(),
                *await self._maintenance(),
            ]
        except StorageError as error:
            if _code(error) != sqlite3.SQLITE_CORRUPT:
                raise
            return [_damaged(str(self.path), str(error))]

    def _synchronous(self) -> Iterator[Finding]:
        if self.synchronous == "NORMAL":
            yield Finding(
                code="not-durable",
                severity=W,
                subject="synchronous",
                message="synchronous is NORMAL in this process: a loss of power may lose the last commits, and with "
                "them jobs whose adding was acknowledged",
                remedy='SqliteQueueStorage(…, synchronous="FULL")',
            )

    async def _damage(self, size: int) -> list[Finding]:
        if size > CHECKED_BYTES:
            return []
        rows = await self._read("quick_check")
        return [] if rows == [("ok",)] else [_damaged(str(self.path), "; ".join(str(said) for (said,) in rows))]

    async def _schema(self) -> list[Finding]:
        applied = {name for (name,) in await self._read("applied_migrations")}
        objects = {name for (name,) in await self._read("schema_objects")}
        known = migrations.known()
        behind = [step.name for step in known.steps if step.name not in applied]
        ahead = sorted(applied - {step.name for step in known.steps})
        where, found = str(self.path), list[Finding]()
        if behind:
            message = f"the schema is behind this code: {', '.join(behind)} is not applied"
            remedy = "jobq migrate, once no older code uses the file"
            found.append(Finding(code="schema-behind", severity=W, subject=where, message=message, remedy=remedy))
        if ahead:
            message = f"the schema is ahead of this code: it has {', '.join(ahead)}"
            remedy = f"upgrade {known.package} here"
            found.append(Finding(code="schema-ahead", severity=W, subject=where, message=message, remedy=remedy))
        for name, statement in migrations.indexes().items():
            if name not in objects:
                message = f"the index {name} is missing: statements that need it read all jobs, or fail"
                remedy = " ".join(statement.split())
                found.append(Finding(code="missing-index", severity=E, subject=name, message=message, remedy=remedy))
        return found

    async def _maintenance(self) -> list[Finding]:
        ((oldest,),) = await self._read("oldest_minute")
        age = 0 if oldest is None else self._moment().now // MINUTE - oldest
        if age <= STEPS[60] // 60 + UNDONE_MINUTES:
            return []
        return [
            Finding(
                code="not-pruned",
                severity=W,
                subject=str(self.path),
                message=f"statistics of {age // 1440} days ago are not summed up: no worker prunes, and the file grows",
                remedy="start a worker, which prunes every 10 seconds, or call `await storage.prune()`",
            )
        ]


def _free(path: str, size: int, free: int) -> Iterator[Finding]:
    if free >= FREE_BYTES and free > FREE_SHARE * size:
        yield Finding(
            code="free-pages",
            severity=W,
            subject=path,
            message=f"{free / size:.0%} of the file ({free / 1e6:,.0f} of {size / 1e6:,.0f} MB) is free: new jobs use "
            "it, but the file does not shrink by itself",
            remedy=f"stop all processes that use the file; sqlite3 {path} VACUUM",
        )


def _damaged(path: str, said: str) -> Finding:
    return Finding(
        code="damaged",
        severity=E,
        subject=path,
        message=f"the file is damaged: {said}",
        remedy=f"stop all processes that use the file; restore a backup, or sqlite3 {path} .recover | sqlite3 new.db",
    )


def _code(error: StorageError) -> int:
    """Return SQLite's code for the cause of an error, 0 if SQLite did not cause it."""
    return code_of(error.__cause__) if isinstance(error.__cause__, sqlite3.Error) else 0


def _named(holders: list[str]) -> str:
    return f" ({', '.join(holders)} has it)" if holders else ""
