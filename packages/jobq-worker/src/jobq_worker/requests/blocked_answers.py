"""`BlockedAnswers`: answers requests for stacks from the heartbeat's thread while the event loop is blocked.

That is when a stack is wanted most. A request to drain is left to the event loop: nothing else can stop the worker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final
from uuid import UUID

from jobq_core.errors import JobQueueError
from jobq_core.storage import Heartbeat, WorkerAction
from jobq_worker.requests.answers import MAX_BYTES, shorten

logger = logging.getLogger("jobq.worker")

LOOK_SECONDS: Final = 1.0
"""Interval between two looks for requests, while the event loop does not answer."""


class BlockedAnswers:
    """Looks for requests while the event loop is blocked.

    describe: returns the stack of a job, or of all that runs. unanswered: seconds without an answer after which the
    event loop counts as blocked.
    """

    def __init__(
        self, describe: Callable[[UUID | None], str], clock: Callable[[], float], *, unanswered: float
    ) -> None:
        self._describe = describe
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
                if request.action is WorkerAction.STACK:
                    head = f"the event loop has been blocked for {lag:.1f} s\n\n"
                    heartbeat.answer(request.id, shorten(head + self._describe(request.job), MAX_BYTES))
        except JobQueueError as error:
            logger.debug("requests could not be looked for: %s", error)
