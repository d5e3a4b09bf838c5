"""One subscription per worker; dispatches each notification to the component that handles its topic."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jobq_core.storage import QueueStorage
from jobq_worker.loops import retry
from jobq_worker.outages import Outages


async def dispatch(storage: QueueStorage, handlers: Mapping[str, Callable[[], None]], outages: Outages) -> None:
    """Call the handler of each topic that is notified, until cancelled.

    A handler of several topics is called once. After a broken subscription the next one calls all handlers, since
    notifications may have been missed; until then the components poll.
    """

    async def listen() -> None:
        async with storage.subscribe(handlers) as subscription:
            outages.record_success("notifications")
            topics = frozenset(handlers)
            while True:
                for handler in dict.fromkeys(handler for topic, handler in handlers.items() if topic in topics):
                    handler()
                topics = await subscription.wait()

    await retry("notifications", listen, outages)
