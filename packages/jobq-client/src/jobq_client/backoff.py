"""Waiting a little, in one place: everything that the client does with time passes here."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from jobq_core.retry import Backoff

OUTAGE: Final = Backoff(base=0.1, factor=2.0, maximum=2.0)
"""Between attempts to reach a storage that is away: drawn evenly from 0 to 0.1, 0.2, … 2 seconds."""


async def pause(bell: asyncio.Event, seconds: float) -> bool:
    """Sleep for up to `seconds`, or until the bell is set; say whether it was."""
    try:
        async with asyncio.timeout(seconds):
            await bell.wait()
    except TimeoutError:
        return bell.is_set()
    return True


def around(seconds: float) -> float:
    """Return the seconds give or take a fifth, so that many clients that started together do not poll together."""
    return seconds * random.uniform(0.8, 1.2)
