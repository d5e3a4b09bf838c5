"""`WorkerRequests`: what operators ask of this worker from afar, answered on the event loop.

A notification says that there may be a request. Without notifications the worker looks with every heartbeat, and with
them once in a while. While the event loop is blocked, the heartbeat's thread looks: see `BlockedAnswers`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from jobq_core.errors import ConfigurationError
from jobq_core.storage import QueueStorage, WorkerAction, WorkerRequest
from jobq_worker.liveness.registration import Registration
from jobq_worker.loops import UNTIL_WOKEN, Loop
from jobq_worker.notifications import Notifications
from jobq_worker.options import WorkerOptions
from jobq_worker.outages import Outages
from jobq_worker.own_threads import run_in_thread
from jobq_worker.requests.answers import Stacks
from jobq_worker.running.pipeline import Pipeline

logger = logging.getLogger("jobq.worker")

LOOK_SECONDS: Final = 60.0
"""Interval between two looks for requests while notifications arrive."""
GAP_SECONDS: Final = 0.2
"""Minimum interval between two looks: the same notification says that a job was asked to stop."""


class WorkerRequests:
    """Answers the requests to a worker. drain: stops it, as SIGTERM does; called with who asked."""

    def __init__(
        self,
        storage: QueueStorage,
        registration: Registration,
        outages: Outages,
        notifications: Notifications,
        pipeline: Pipeline,
        stacks: Stacks,
        drain: Callable[[str], None],
        options: WorkerOptions,
    ) -> None:
        self._storage = storage
        self._registration = registration
        self._outages = outages
        self._notifications = notifications
        self._pipeline = pipeline
        self._stacks = stacks
        self._drain = drain
        self._options = options
        self._looked_at = float("-inf")
        self.loop = Loop("requests", self._work, outages)

    async def _work(self, woken: bool) -> float:
        now = asyncio.get_running_loop().time
        gap = self._looked_at + GAP_SECONDS - now()
        if gap > 0:
            return gap
        self._looked_at = now()
        try:
            requests = await self._storage.worker_requests(self._registration.id)
        except ConfigurationError:
            return UNTIL_WOKEN  # a storage without this facet
        for request in requests:
            await self._answer(request)
        self._outages.record_success("requests")
        return LOOK_SECONDS if self._notifications.hears else self._options.heartbeat_interval

    async def _answer(self, request: WorkerRequest) -> None:
        if request.action is WorkerAction.DRAIN:
            running, seconds = len(self._pipeline.running), self._options.stop_timeout
            answer = f"the worker drains: {running} running jobs have up to {seconds:g} s"
            await self._storage.answer_request(request.id, answer)
            self._drain(request.actor)
            return
        logger.info("worker %s shows its stacks to %s", self._registration.info.name, request.actor)
        await self._storage.answer_request(request.id, await self._describe(request))

    async def _describe(self, request: WorkerRequest) -> str:
        """Describe in a thread of its own: handler processes are waited for."""
        try:
            return await run_in_thread("jobq-stacks", self._stacks.describe, request.job)
        except Exception as error:
            logger.exception("the stacks could not be described")
            return f"the stacks could not be described: {type(error).__name__}\n"
