"""jobq's client for threads: lone adds, and adds of many threads that share one client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import ours
from protocol import main

from jobq_client import SyncJobQueueClient


class JobqSync(ours.Jobq):
    """The same promises, without an event loop of the caller's."""

    name = "jobq, sync client"
    can = frozenset({"add", "group"})
    packages = ("jobq-core", "jobq-client")
    imports: ClassVar[dict[str, str]] = {}
    settings: ClassVar[dict[str, list[dict[str, Any]]]] = {}

    @contextmanager
    def blocking_adder(self, payload: int) -> Iterator[Callable[[int], object]]:
        """Return a function that adds with the client."""
        text = "x" * payload
        with SyncJobQueueClient(self.url) as client:
            yield lambda n: client.add(ours.nothing(n=n, text=text))


if __name__ == "__main__":
    main(JobqSync)
