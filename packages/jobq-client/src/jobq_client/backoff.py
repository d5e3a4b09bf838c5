"""Delays: between retries during an outage, and between polls."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from jobq_core.retry import Backoff

OUTAGE: Final = Backoff(base=0.1, factor=2.0, maximum=2.0)
"""Delays between attempts to reach an unavailable storage: drawn evenly from 0 to 0.1, 0.2, … 2 seconds."""


async def pause(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event, for `seconds` at most. Returns whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


def spread(seconds: float) -> float:
    """Return the seconds plus or minus a fifth, so that clients that started together do not poll together."""
    return seconds * random.uniform(0.8, 1.2)
