"""The options of queues: paused, and how long finished jobs are kept."""

from __future__ import annotations

from jobq_client.base import ClientBase
from jobq_core.checks import check_bool
from jobq_core.errors import ConfigurationError
from jobq_core.job import check_name
from jobq_core.reprs import short_repr
from jobq_core.storage import QueueOptions, QueueRecord, Retention


class Queues(ClientBase):
    """The part of `JobQueueClient` that sets options of queues."""

    async def pause(self, queue: str | None = None, *, actor: str | None = None) -> None:
        """Keep workers from claiming jobs of a queue (default: the client's own) until `resume`.

        Running jobs continue, and jobs can be added. Applies to all workers, including later ones. actor: who pauses
        it, for `queues` and `why` to tell (default: nobody).
        """
        await self.set_queue(queue, paused=True, actor=actor)

    async def resume(self, queue: str | None = None) -> None:
        """Let workers claim jobs of a paused queue (default: the client's own) again."""
        await self.set_queue(queue, paused=False)

    async def set_queue(
        self,
        queue: str | None = None,
        *,
        paused: bool | None = None,
        retention: Retention | None = None,
        actor: str | None = None,
    ) -> None:
        """Set options of a queue (default: the client's own); those not given stay as they are.

        paused, actor: as `pause` and `resume` do. retention: how long finished jobs are kept; the options of workers do
        not replace it. Raises ConfigurationError for an invalid value.
        """
        session = self._running()
        if paused is not None:
            check_bool(paused, "paused")
        if retention is not None and not isinstance(retention, Retention):
            raise ConfigurationError(f"retention must be a Retention, not {short_repr(retention)}")
        if actor is not None:
            check_name(actor, "actor")
        options = QueueOptions(paused=paused, retention=retention, actor=actor)
        await session.storage.set_queue(self._queue_or_own(queue), options, "operator")

    async def queues(self) -> list[QueueRecord]:
        """Return the queues whose options were set, by name: since when they are paused, by which actor, and their
        retention."""
        return await self._running().storage.queues()
