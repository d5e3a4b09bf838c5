"""The programs that run in a transaction of a caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar
from uuid import UUID

from jobq_core.errors import ConfigurationError
from jobq_core.storage import Added, Change, NewJob, Settlement, lease_lost
from jobq_storage_postgres import adding_programs
from jobq_storage_postgres.binary import pack_int8, pack_text, pack_uuid
from jobq_storage_postgres.changing import Operation, change
from jobq_storage_postgres.notifier import Notifier
from jobq_storage_postgres.programs import Program
from jobq_storage_postgres.protocol import Statement
from jobq_storage_postgres.settling import Settling, settle
from jobq_storage_postgres.sql import Statements
from jobq_storage_postgres.topics import topics_of

T = TypeVar("T")

_READ_LOCK_TIMEOUT = Statement("read_lock_timeout", "SELECT pg_catalog.current_setting('lock_timeout')")
_SET_LOCK_TIMEOUT = Statement("set_lock_timeout", "SELECT pg_catalog.set_config('lock_timeout', $1::text, true)")
_SAVEPOINT = Statement("savepoint", "SAVEPOINT jobq", has_rows=False)
_RELEASE = Statement("release", "RELEASE SAVEPOINT jobq", has_rows=False)
_ROLL_BACK_TO = Statement("roll_back_to", "ROLLBACK TO SAVEPOINT jobq", has_rows=False)


def checked(statements: Statements, installation: UUID | None, url: str, program: Program[T]) -> Program[T]:
    """Run a program if this is the storage's database; if not, no error breaks the caller's transaction."""
    (((exists,),),) = yield [(statements["is_there"], ())]
    if exists:
        (rows,) = yield [(statements["installation"], ())]
        if rows == [(installation,)]:
            return (yield from program)
    raise ConfigurationError(
        f"connection= leads to another database than the storage ({url}), which would not find the jobs"
    )


def add(statements: Statements, notifier: Notifier, jobs: Sequence[NewJob]) -> Program[list[Added]]:
    """Add jobs, and notify when the caller commits."""
    if not jobs:
        return []
    added = yield from adding_programs.add(statements, jobs)
    made = [job for job, answer in zip(jobs, added, strict=True) if answer.created]
    if made:
        yield [notifier.step_within(topics_of(made))]
    return added


def abort(statements: Statements, notifier: Notifier, ids: Sequence[UUID]) -> Program[list[Change]]:
    """Abort jobs, and notify when the caller commits."""
    return (yield from _change(statements, notifier, "abort", ids))


def retry(statements: Statements, notifier: Notifier, ids: Sequence[UUID]) -> Program[list[Change]]:
    """Retry jobs, and notify when the caller commits.

    The statement sets a lock timeout, and its failure would break the transaction: both are undone.
    """
    (((timeout,),),) = yield [(_READ_LOCK_TIMEOUT, ())]
    program = _change(statements, notifier, "retry", ids)
    try:
        steps = next(program)
        while True:
            yield [(_SAVEPOINT, ())]
            try:
                rows = yield steps
            except Exception as error:  # noqa: BLE001  (raised in the program)
                yield [(_ROLL_BACK_TO, ())]
                steps = program.throw(error)
            else:
                yield [(_RELEASE, ()), (_SET_LOCK_TIMEOUT, (pack_text(timeout),))]
                steps = program.send(rows)
    except StopIteration as end:
        changes: list[Change] = end.value
        return changes


def complete(statements: Statements, notifier: Notifier, settlement: Settlement) -> Program[None]:
    """Complete a run, add its jobs, and notify when the caller commits. Raises LeaseLostError if its lease is over."""
    (rows,) = yield [(statements["hold_run"], (pack_uuid(settlement.id), pack_int8(settlement.lease)))]
    if not rows:
        raise lease_lost(settlement)
    settling = Settling([settlement])
    yield from settle(statements, settling)
    topics = set(settling.topics)
    if settlement.jobs:
        added = yield from adding_programs.add(statements, settlement.jobs)
        topics |= topics_of([job for job, answer in zip(settlement.jobs, added, strict=True) if answer.created])
    yield [notifier.step_within(topics)]


def _change(
    statements: Statements, notifier: Notifier, operation: Operation, ids: Sequence[UUID]
) -> Program[list[Change]]:
    topics: set[str] = set()
    changes = yield from change(statements, operation, ids, topics)
    if topics:
        yield [notifier.step_within(topics)]
    return changes
