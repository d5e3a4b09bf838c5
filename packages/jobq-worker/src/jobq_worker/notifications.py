"""One subscription per worker; dispatches each notification to the component that handles its topic."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from jobq_core.storage import QueueStorage
from jobq_worker.loops import retry
from jobq_worker.outages import Outages


class Notifications:
    """The subscription of a worker."""

    def __init__(self, storage: QueueStorage, outages: Outages) -> None:
        self._storage = storage
        self._outages = outages
        self._subscribed = False

    @property
    def hears(self) -> bool:
        """Whether the notifications of other processes arrive, as far as this process knows."""
        return self._subscribed and self._storage.hears_notifications

    async def dispatch(self, handlers: Mapping[str, Callable[[], None]]) -> None:
        """Call the handler of each topic that is notified, until cancelled.

        A handler of several topics is called once. After a broken subscription the next one calls all handlers, since
        notifications may have been missed; until then the components poll.
        """

        async def listen() -> None:
            try:
                async with self._storage.subscribe(handlers) as subscription:
                    self._outages.record_success("notifications")
                    self._subscribed = True
                    topics = frozenset(handlers)
                    while True:
                        for handler in dict.fromkeys(handler for topic, handler in handlers.items() if topic in topics):
                            handler()
                        await asyncio.sleep(0)  # what was woken acts before this waits again
                        topics = await subscription.wait()
            finally:
                self._subscribed = False

        await retry("notifications", listen, self._outages)
