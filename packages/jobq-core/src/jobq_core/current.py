"""`current_job`: the context of the job that runs here, for code that is not passed one."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final, Protocol

from jobq_core.context import JobContext


class ContextMaker(Protocol):
    """A run of a worker, which makes its context when it is first asked for."""

    def make_context(self) -> JobContext:
        """Return the context of the run: the same one at each call."""
        ...


running: Final[ContextVar[JobContext | ContextMaker | None]] = ContextVar("jobq_running", default=None)
"""What runs here; set by a worker around each handler."""


def current_job() -> JobContext | None:
    """Return the context of the job that runs here; None outside of a handler.

    It is the context that the handler gets, whether or not the handler takes one. Tasks that the handler starts, and
    functions that it calls by `asyncio.to_thread`, see it too. A thread that the handler starts does not, unless it
    runs in a copy of the handler's context (`contextvars.copy_context`).
    """
    found = running.get()
    return found if found is None or isinstance(found, JobContext) else found.make_context()
