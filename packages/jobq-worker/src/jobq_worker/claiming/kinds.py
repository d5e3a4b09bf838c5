"""When to ask the storage for jobs that are BLOCKED since no worker could take them, and that this worker can take."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

GAP_SECONDS: Final = 0.1
"""Minimum interval between two such questions, unless the last one freed some job: a worker is notified of the jobs
that it blocks itself, too."""


class KnownKinds:
    """The kinds that a worker knows, each with its declaration, and the queues in which such jobs may wait.

    due_at: when to ask, by the clock; infinite while there is nothing to ask.
    """

    def __init__(self, kinds: Iterable[tuple[str, str]], queues: Collection[str], clock: Callable[[], float]) -> None:
        self._kinds = tuple(kinds)
        self._clock = clock
        self._not_before = float("-inf")
        self.queues: set[str] = set(queues)
        """The queues to ask about."""

    @property
    def due_at(self) -> float:
        return self._not_before if self.queues else float("inf")

    def notify(self, queues: Iterable[str]) -> None:
        """Ask about these queues."""
        self.queues.update(queues)

    def next(self, asked: Collection[str]) -> tuple[tuple[str, str], ...]:
        """Return the kinds to send with a claim from the queues `asked`; none if there is nothing to ask about them."""
        if not self.queues or self._clock() < self._not_before or self.queues.isdisjoint(asked):
            return ()
        self.queues.difference_update(asked)
        self._not_before = self._clock() + GAP_SECONDS
        return self._kinds

    def freed(self, asked: Iterable[str]) -> None:
        """Ask again at once, since a claim from these queues freed some job."""
        self.queues.update(asked)
        self._not_before = float("-inf")
