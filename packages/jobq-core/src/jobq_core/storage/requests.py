"""The facet of requests to workers: what an operator asks a worker on another machine to do, and its answer."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from msgspec import Struct

REQUEST_SECONDS: Final = 3600.0
"""Seconds after which a request is removed, answered or not."""


class WorkerAction(StrEnum):
    """What a worker can be asked to do."""

    DRAIN = "drain"
    """Claim no more, let the running jobs finish, and stop, as on SIGTERM."""
    STACK = "stack"
    """Answer with the stacks of its threads and tasks, or of those that run one job."""


class WorkerRequest(Struct, frozen=True, kw_only=True):
    """What a worker was asked to do.

    job: the job whose stack is wanted (None: of all that runs). answer: text of at most 256 KiB; None until the worker
    has answered.
    """

    id: UUID
    worker: UUID
    action: WorkerAction
    job: UUID | None
    actor: str
    asked_at: datetime
    answered_at: datetime | None = None
    answer: str | None = None


class WorkerRequestStorage(abc.ABC):
    """What passes requests to workers."""

    @abc.abstractmethod
    async def ask_worker(self, request: WorkerRequest) -> bool:
        """Store a request to a registered worker, and notify REQUEST_TOPIC; False if the worker is not registered.

        `asked_at` is replaced by the storage's now. A repeated id changes nothing. Requests are removed with their
        worker (by `deregister`, `rescue` or the next `prune`), and by a `prune` REQUEST_SECONDS after they were asked.
        """

    @abc.abstractmethod
    async def worker_requests(self, worker: UUID) -> list[WorkerRequest]:
        """Return the requests to a worker that it has not answered, oldest first."""

    @abc.abstractmethod
    async def answer_request(self, id: UUID, answer: str) -> bool:
        """Store the answer to a request; False if the request does not exist any more. A repeated call does no harm."""

    @abc.abstractmethod
    async def get_requests(self, ids: Sequence[UUID]) -> list[WorkerRequest | None]:
        """Return requests with their answers; None for one that does not exist."""
