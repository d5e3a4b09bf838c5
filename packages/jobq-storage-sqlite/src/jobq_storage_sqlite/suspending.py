"""Suspended jobs: those that a worker could not run, until a worker that can run them claims."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from jobq_core.encoding import decode_or_show
from jobq_core.storage import REFUSED_LIMIT, UNFIT_ARGUMENTS, UNKNOWN_KIND, blocked_topic
from jobq_storage_sqlite.columns import to_array
from jobq_storage_sqlite.endings import EndingJob, put_in_line
from jobq_storage_sqlite.transaction import Transaction

SUSPENDED = (UNKNOWN_KIND, UNFIT_ARGUMENTS)
"""The reasons of jobs that are suspended."""


def refuse(extra: str | None, declaration: str | None) -> str | None:
    """Return a job's extra with one more declaration that refused its arguments."""
    if declaration is None:
        return extra
    values = _object(extra)
    refused = [*_refused(values), declaration]
    return msgspec.json.encode(values | {"refused": refused[-REFUSED_LIMIT:]}).decode()


def suspend(transaction: Transaction, job: EndingJob, extra: str | None) -> None:
    """Record a job that became BLOCKED for one of these reasons, for the workers that can run it."""
    refused = to_array(_refused(_object(extra)))
    transaction.run("insert_suspended", job.queue, job.kind, refused, job.id, job.n)
    transaction.topics.add(blocked_topic(job.queue))


def free_suspended(transaction: Transaction, queues: Iterable[str], kinds: Mapping[str, str], *, limit: int) -> int:
    """Free up to `limit` suspended jobs, the oldest ids first, to the returned line, and return their number.

    kinds: those that the worker knows, and its declaration of each.
    """
    found: list[tuple[bytes, int, str, int, str, str]] = []
    for queue in dict.fromkeys(queues):
        for kind, refused in _suspended(transaction, queue, kinds):
            rows = _standing(transaction, (queue, kind, refused), limit)
            found += [(job_id, n, queue, flags, kind, refused) for job_id, n, flags, _ in rows]
    freed = sorted(found)[:limit]
    if freed:
        transaction.many("delete_suspended", [(queue, kind, no, job_id) for job_id, _, queue, _, kind, no in freed])
        put_in_line(transaction, [(n, queue, flags) for _, n, queue, flags, _, _ in freed], returned=True)
    return len(freed)


def _standing(transaction: Transaction, key: tuple[str, str, str], limit: int) -> list[Any]:
    """Return up to `limit` rows of jobs that are still suspended, and delete the others that it meets."""
    while True:
        rows: list[Any] = transaction.all("find_suspended", *key, limit)
        stale = [(*key, row[0]) for row in rows if not row[3]]
        if not stale:
            return rows
        transaction.many("delete_suspended", stale)


def _suspended(transaction: Transaction, queue: str, kinds: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield those kinds of a queue's suspended jobs that the worker can take, and the declarations that refused them,
    which do not include its own."""
    kind = ""
    while (row := transaction.one("next_suspended_kind", queue, kind)) is not None:
        (kind,) = row
        refused = ""
        while kind in kinds and (row := transaction.one("next_refused", queue, kind, refused)) is not None:
            (refused,) = row
            if kinds[kind] not in decode_or_show(refused):
                yield kind, refused


def _object(extra: str | None) -> dict[str, Any]:
    values = {} if extra is None else decode_or_show(extra)
    return values if isinstance(values, dict) else {}


def _refused(values: dict[str, Any]) -> list[Any]:
    refused = values.get("refused", [])
    return refused if isinstance(refused, list) else []
