"""`BlockedAnswers`: answers requests from the heartbeat's thread while the event loop is blocked.

That is when a stack is wanted most. A request to drain is accepted: a worker whose event loop is blocked claims
nothing, and it drains as soon as the event loop answers. Nothing else can stop it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final
from uuid import UUID

from jobq_core.errors import JobQueueError
from jobq_core.storage import Heartbeat, WorkerAction, WorkerRequest
from jobq_worker.requests.answers import MAX_BYTES, shorten

logger = logging.getLogger("jobq.worker")

LOOK_SECONDS: Final = 1.0
"""Interval between two looks for requests, while the event loop does not answer."""


class BlockedAnswers:
    """Looks for requests while the event loop is blocked.

    It is made on the event loop. describe: returns the stack of a job, or of all that runs. drain: stops the worker;
    called on the event loop, with who asked. unanswered: seconds without an answer after which the event loop counts
    as blocked.
    """

    def __init__(
        self,
        describe: Callable[[UUID | None], str],
        drain: Callable[[str], None],
        clock: Callable[[], float],
        *,
        unanswered: float,
    ) -> None:
        self._describe = describe
        self._drain = drain
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._unanswered = unanswered
        self._look_at = float("-inf")

    def look(self, heartbeat: Heartbeat, lag: float) -> None:
        """Answer what was asked, if the event loop has not answered for long and a look is due. lag: for how long."""
        if lag < self._unanswered or self._clock() < self._look_at:
            return
        self._look_at = self._clock() + LOOK_SECONDS
        try:
            for request in heartbeat.requests():
                self._answer(heartbeat, request, f"the event loop has been blocked for {lag:.1f} s")
        except JobQueueError as error:
            logger.debug("requests could not be looked for: %s", error)

    def _answer(self, heartbeat: Heartbeat, request: WorkerRequest, head: str) -> None:
        if request.action is WorkerAction.STACK:
            heartbeat.answer(request.id, shorten(f"{head}\n\n{self._describe(request.job)}", MAX_BYTES))
            return
        with contextlib.suppress(RuntimeError):  # the event loop is closed, and the worker has stopped
            # Before the answer: an accepted request is not asked again. Draining twice does no harm.
            self._loop.call_soon_threadsafe(self._drain, request.actor)
        heartbeat.answer(request.id, f"{head}: the worker claims no jobs, and drains as soon as the event loop answers")
