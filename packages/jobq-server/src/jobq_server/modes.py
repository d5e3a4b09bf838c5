"""What one `JobQueue` object does in its process, and the error of asking for what it does not do."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from jobq_core.checks import is_one_of
from jobq_core.errors import ConfigurationError
from jobq_core.reprs import short_repr


class QueueMode(StrEnum):
    """Which parts a `JobQueue` has."""

    CLIENT = "client"
    """It adds jobs and waits for them; others run them."""
    SERVER = "server"
    """It runs jobs that others add."""
    BOTH = "both"
    """It adds jobs and runs them."""

    @property
    def has_client(self) -> bool:
        """Whether jobs can be added through it."""
        return self is not QueueMode.SERVER

    @property
    def has_server(self) -> bool:
        """Whether it runs jobs."""
        return self is not QueueMode.CLIENT


class QueueModeError(ConfigurationError):
    """The queue was made with a mode that has no such part."""


def no_client(name: str) -> QueueModeError:
    """Return the error of a SERVER asked to add or watch jobs."""
    return QueueModeError(
        f"queue {name!r} was made with mode=QueueMode.SERVER: it runs jobs and has no client to add, watch or change "
        "them with; make it with QueueMode.BOTH, or use a JobQueueClient on the same storage"
    )


def no_server(name: str) -> QueueModeError:
    """Return the error of a CLIENT asked to run jobs."""
    return QueueModeError(
        f"queue {name!r} was made with mode=QueueMode.CLIENT: it adds jobs and has no workers to run them, scale or "
        "report on; make it with QueueMode.BOTH, or run a JobQueueServer or `jobq server` on the same storage"
    )


def parse_mode(mode: Any) -> QueueMode:
    """Return the mode that a word names; raises ConfigurationError if it names none."""
    if not is_one_of(mode, QueueMode):
        raise ConfigurationError(f"mode must be one of {', '.join(QueueMode)}, not {short_repr(mode)}")
    return QueueMode(mode)
