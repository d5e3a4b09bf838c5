"""`Ride`: a notification that rides along with the add that it announces, in the same flush of the connection.

The server runs it as a transaction of its own right after the add is committed, without a turn of the client's event
loop in between: a caller that then blocks its event loop, or ends its process, does not delay it. Measured: without
it, an idle worker takes ×1.13 of the time to pick up a job (×1.02 with fsync), and a lone add takes 24 % more
processor time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from jobq_storage_postgres.connection import Connection
from jobq_storage_postgres.notifier import Notifier
from jobq_storage_postgres.protocol import Step


class Ride:
    """The notification of one add."""

    def __init__(self, notifier: Notifier, topics: Iterable[str]) -> None:
        self._notifier = notifier
        self._topics = frozenset(topics)
        self._began = 0.0
        self._aboard = False

    def rider(self, connection: Connection) -> Step | None:
        """Return the statement to send along, asked at each try; None if it needs none, or cannot ride."""
        self._began = time.monotonic()
        step = self._notifier.board(self._topics, connection)
        self._aboard = step is not None
        return step

    def committed(self) -> None:
        """Notify this process, and others if the notification did not ride."""
        if self._began:
            self._notifier.last_add_seconds = time.monotonic() - self._began
        if self._aboard:
            self._notifier.deliver(self._topics)
        else:
            self._notifier.notify(self._topics)
