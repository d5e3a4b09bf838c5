"""`MemoryQueueStorage`: the contract over data that live in this process."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, ClassVar, Self

from jobq_core.encoding import is_unicode
from jobq_core.errors import ConfigurationError
from jobq_core.local_notifier import LocalSubscription
from jobq_core.memory.adding import Adding
from jobq_core.memory.altering import Altering
from jobq_core.memory.control import Control
from jobq_core.memory.depths import Depths
from jobq_core.memory.finding import Finding
from jobq_core.memory.leases import Leases
from jobq_core.memory.logs import Logs
from jobq_core.memory.maintenance import Maintenance
from jobq_core.memory.notifier import MemoryNotifier
from jobq_core.memory.operations import Operations
from jobq_core.memory.reading import Reading
from jobq_core.memory.requests import Requests
from jobq_core.memory.settle_and_claim import SettleAndClaim
from jobq_core.memory.store import Clock, Store
from jobq_core.memory.workers import Workers
from jobq_core.reprs import short_repr
from jobq_core.storage import Phase, QueueStorage
from jobq_core.timestamps import to_datetime

_named: dict[str, Store] = {}
_naming = threading.Lock()


class MemoryQueueStorage(
    Adding,
    SettleAndClaim,
    Leases,
    Workers,
    Control,
    Altering,
    Reading,
    Finding,
    Depths,
    Operations,
    Requests,
    Logs,
    Maintenance,
    QueueStorage,
):
    """Jobs in memory, gone when the process ends.

    name: objects of one name share their jobs, across threads and event loops, for as long as the process lives
        (default: the jobs are this object's alone).
    clock: returns seconds since 1970 (default: time.time). The first clock given for a name holds.
    lease_clock: returns the seconds that leases go by (default: `clock` if that is given, else time.monotonic).
    takes_connections: whether operations take any `connection` and act at once, for tests of code that passes one; else
        they raise ConfigurationError (default False). The first object of a name decides.
    """

    schemes: ClassVar[tuple[str, ...]] = ("memory",)

    def __init__(
        self,
        name: str | None = None,
        *,
        clock: Callable[[], float] | None = None,
        lease_clock: Callable[[], float] | None = None,
        takes_connections: bool = False,
    ) -> None:
        self._name = name
        store = Store(Clock(clock, lease_clock), takes_connections=takes_connections)
        super().__init__(store if name is None else _store_of(name, clock, store))

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Make a storage from `memory://`, with jobs of its own, or `memory://name`, which shares the name's jobs."""
        match = re.fullmatch(r"memory://([^/?#@]*)", url)
        if match is None:
            # The message does not repeat the URL: one of another storage may have a password in it.
            raise ConfigurationError(
                "the URL of a memory storage is memory:// or memory://name, with nothing else in it"
            )
        return cls(match[1] or None)

    @property
    def url(self) -> str:
        return f"memory://{self._name or ''}"

    async def open(self) -> None:
        if self._notifier is None:
            self._notifier = MemoryNotifier(self._store)

    async def close(self) -> None:
        """End all subscriptions; the jobs stay."""
        # The lock lets a transaction of another thread finish first.
        with self._store.lock:
            notifier, self._notifier = self._notifier, None
        if notifier is not None:
            notifier.close()

    async def migrate(self, phase: Phase = "all") -> list[str]:
        """Do nothing: there is no schema."""
        return []

    def migration_sql(self) -> str:
        return ""

    async def now(self) -> datetime:
        with self._transaction() as store:
            return to_datetime(store.clock.now())

    def subscribe(self, topics: Iterable[str]) -> LocalSubscription:
        return self._open_notifier().subscribe(topics)


def forget(name: str) -> None:
    """Make the next storage of this name one without jobs. Those that are there keep theirs."""
    with _naming:
        _named.pop(name, None)


def _store_of(name: Any, clock: Callable[[], float] | None, new: Store) -> Store:
    if not isinstance(name, str) or not is_unicode(name):
        raise ConfigurationError(f"the name of a memory storage must be text, not {short_repr(name)}")
    with _naming:
        store = _named.setdefault(name, new)
    if clock not in (None, store.clock.time_of_day):
        raise ConfigurationError(f"memory storage {name!r} already uses another clock")
    return store
