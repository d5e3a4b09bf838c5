"""`QueueMode`: which parts a `JobQueue` has, and the errors for the parts that it lacks."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from jobq_core.checks import is_one_of
from jobq_core.errors import ConfigurationError
from jobq_core.reprs import short_repr


class QueueMode(StrEnum):
    """Which parts a `JobQueue` has."""

    CLIENT = "client"
    """It adds jobs and waits for them; other processes run them."""
    SERVER = "server"
    """It runs jobs that other processes add."""
    BOTH = "both"
    """It adds jobs and runs them."""

    @property
    def has_client(self) -> bool:
        """Whether the queue adds jobs."""
        return self is not QueueMode.SERVER

    @property
    def has_server(self) -> bool:
        """Whether the queue runs jobs."""
        return self is not QueueMode.CLIENT


class QueueModeError(ConfigurationError):
    """The queue's mode excludes the part that was asked for."""


def no_client(name: str) -> QueueModeError:
    """Return the error of a queue in mode SERVER that is asked to add or watch jobs."""
    return QueueModeError(
        f"queue {name!r} has mode=QueueMode.SERVER: it runs jobs and has no client to add, watch or change jobs; use "
        "QueueMode.BOTH, or a JobQueueClient on the same storage"
    )


def no_server(name: str) -> QueueModeError:
    """Return the error of a queue in mode CLIENT that is asked to run jobs."""
    return QueueModeError(
        f"queue {name!r} has mode=QueueMode.CLIENT: it adds jobs and has no workers to run, scale or report on; use "
        "QueueMode.BOTH, or run a JobQueueServer or `jobq server` on the same storage"
    )


def parse_mode(mode: Any) -> QueueMode:
    """Return the mode of a name. Raises ConfigurationError for an unknown one."""
    if not is_one_of(mode, QueueMode):
        raise ConfigurationError(f"mode must be one of {', '.join(QueueMode)}, not {short_repr(mode)}")
    return QueueMode(mode)
