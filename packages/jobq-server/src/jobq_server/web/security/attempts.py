"""`Attempts`: bounds how often a client may guess a secret."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from jobq_server.web.problems import Problem

ALLOWED: Final = 20
PER_SECONDS: Final = 60.0
MAX_CLIENTS: Final = 10_000


class Attempts:
    """Counts the wrong secrets of each client address: 20 a minute are answered, then no more for that minute.

    clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def check(self, client: str) -> None:
        """Raise Problem for a client that has guessed too often, before its next secret is compared."""
        if self._count(client) >= ALLOWED:
            raise Problem(429, "too many wrong passwords or tokens from this address; wait a minute", retry_after=60)

    def record(self, client: str) -> None:
        """Count a wrong secret."""
        since = self._counts.get(client, (self._clock(), 0))[0] if self._count(client) else self._clock()
        self._counts[client] = since, self._count(client) + 1
        self._counts.move_to_end(client)
        if len(self._counts) > MAX_CLIENTS:
            self._counts.popitem(last=False)

    def _count(self, client: str) -> int:
        since, count = self._counts.get(client, (0.0, 0))
        return count if self._clock() - since < PER_SECONDS else 0
