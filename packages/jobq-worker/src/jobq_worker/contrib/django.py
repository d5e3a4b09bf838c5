"""Django: connections of the database that a handler used are not kept beyond CONN_MAX_AGE, or once they broke."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections as _close

from jobq_core.context import JobContext
from jobq_core.job import Job


class _AroundRun:
    """Closes old connections before and after a run: in the handler's thread, or in the one that Django gives to async
    code."""

    def __enter__(self) -> None:
        _close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _close()

    async def __aenter__(self) -> None:
        await sync_to_async(_close)()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await sync_to_async(_close)()


def close_old_connections(job: Job[Any], context: JobContext) -> _AroundRun:
    """Close connections that broke or are older than CONN_MAX_AGE, before and after each run, as Django does around a
    request: `worker.middleware(close_old_connections)`."""
    return _AroundRun()
