"""The ear of a worker at the storage's doorbell: one subscription, whose rings are passed on to whom they concern."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from jobq_core.storage import QueueStorage
from jobq_worker.outages import Outages


async def listen(storage: QueueStorage, bells: Mapping[str, Callable[[], None]], outages: Outages) -> None:
    """Call the function of each topic when it rings, until cancelled.

    Each function is called once, in the order of the topics. A subscription that breaks is made anew, and since rings
    may have been missed meanwhile, every function is called then."""
    while True:
        try:
            async with storage.subscribe(bells) as ear:
                outages.record_success("doorbell")
                for ring in dict.fromkeys(bells.values()):
                    ring()
                while True:
                    rung = await ear.wait()
                    for ring in dict.fromkeys(ring for topic, ring in bells.items() if topic in rung):
                        ring()
        except Exception as error:  # noqa: BLE001  (logged by Outages; polling goes on meanwhile)
            await asyncio.sleep(outages.record_failure("doorbell", error))
