"""`Looks`: what open pages show, asked for once for all who look at the same page at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

FRESH_SECONDS: Final = 1.0
"""A look that is younger than this is shown to others too."""
MAX_KEPT: Final = 200


class Looks:
    """The last look at each page, by what it depends on: its address, and the role of who looks.

    So the cost of open pages grows with the number of different pages, and not with the number of people.
    """

    def __init__(self) -> None:
        self._looks: dict[Any, tuple[float, asyncio.Task[dict[str, str]]]] = {}

    async def get(self, key: Any, look: Callable[[], Awaitable[dict[str, str]]]) -> dict[str, str]:
        """Return the parts of a page by id: those of the last look if it is fresh, else those of a look now."""
        now = asyncio.get_running_loop().time()
        begun, task = self._looks.get(key, (float("-inf"), None))
        if task is None or now - begun >= FRESH_SECONDS:
            if len(self._looks) >= MAX_KEPT:
                self._looks = {kept: one for kept, one in self._looks.items() if now - one[0] < FRESH_SECONDS}
            task = asyncio.create_task(_look(look))
            task.add_done_callback(_retrieve)
            self._looks[key] = now, task
        # Shielded: others may wait for it when one of those who look leaves.
        return await asyncio.shield(task)


async def _look(look: Callable[[], Awaitable[dict[str, str]]]) -> dict[str, str]:
    return await look()


def _retrieve(task: asyncio.Task[dict[str, str]]) -> None:
    """Take note of the error of a look that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
