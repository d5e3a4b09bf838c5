"""`QueueStorage`: all facets together, and the life of a storage."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import ClassVar, Literal, Self, TypeAlias, TypeVar

from jobq_core.errors import ConfigurationError
from jobq_core.storage.diagnosis import DiagnosisStorage
from jobq_core.storage.keeper import KeeperStorage
from jobq_core.storage.notifications import NotificationStorage
from jobq_core.storage.operations import OperationStorage
from jobq_core.storage.operator import OperatorStorage
from jobq_core.storage.producer import ProducerStorage
from jobq_core.storage.reader import ReaderStorage
from jobq_core.storage.requests import WorkerRequestStorage
from jobq_core.storage.worker import WorkerStorage

F = TypeVar("F")

Phase: TypeAlias = Literal["pre", "post", "all"]
"""Which migrations to apply: those that are safe while older code runs, those that are not, or all."""


class QueueStorage(
    ProducerStorage,
    WorkerStorage,
    ReaderStorage,
    OperatorStorage,
    OperationStorage,
    WorkerRequestStorage,
    KeeperStorage,
    DiagnosisStorage,
    NotificationStorage,
    abc.ABC,
):
    """The place where jobs live.

    Open it with `async with`, or with `open()` and `close()`. Opening or closing twice is allowed, and a closed storage
    can be opened again. Before `open()` and after `close()`, calls on the data raise ClosedError; `migrate`,
    `migration_sql` and `url` work. One object belongs to one event loop; many clients and workers may share it.
    """

    schemes: ClassVar[tuple[str, ...]] = ()
    """The URL schemes that `open_storage` opens with this class."""

    @classmethod
    @abc.abstractmethod
    def from_url(cls, url: str) -> Self:
        """Make a storage from a URL, without connecting. Raises ConfigurationError for a URL that cannot work."""

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """The URL of the storage, without any password."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What keeps an open storage from its promises and only its administrator can change; one sentence each."""
        return ()

    @abc.abstractmethod
    async def open(self) -> None:
        """Connect and check the schema. Raises StorageUnavailableError if there is no connection; SchemaError, naming
        `jobq migrate`, if the tables are missing or of a version that this code cannot work with.

        A storage whose user is its administrator too may create or update its tables here instead, as SQLite's does by
        default; it applies 'pre' migrations only. After SchemaError or StorageUnavailableError the storage is as
        before, and may be opened later.
        """

    def facet(self, facet: type[F], wanted: str) -> F:
        """Return this storage as one that has an optional facet, such as LogStorage.

        wanted: what needs it. Raises ConfigurationError, which names that, for a storage that does not have the facet.
        """
        if isinstance(self, facet):
            return self
        raise ConfigurationError(
            f"{wanted} needs a storage with the facet {facet.__name__}, which {type(self).__name__} ({self.url}) does "
            "not have"
        )

    @property
    def connections(self) -> Mapping[str, int]:
        """The connections of this process, by state: 'busy', 'idle', and 'waiting' for calls that wait for one; empty
        for a storage without a pool. May be read in any thread."""
        return {}

    def keep_schema(self) -> None:
        """Let `open` neither create nor update tables, and raise SchemaError or StorageUnavailableError instead: for
        commands that only look, which must not create a storage where a URL is mistyped."""

    @abc.abstractmethod
    async def close(self) -> None:
        """End all subscriptions and connections, after the operations under way have finished."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @abc.abstractmethod
    async def migrate(self, phase: Phase = "all") -> list[str]:
        """Update the schema and return the names of the migrations applied, in order.

        Works on a storage that is not open. Migrations are numbered files, checked by checksum, and applied under a
        lock: two simultaneous calls apply each migration once. 'pre' migrations are safe while older code runs, 'post'
        ones are not. Raises SchemaError for an applied migration whose text changed.
        """

    @abc.abstractmethod
    def migration_sql(self) -> str:
        """Return all migrations as SQL that a database administrator can read and run; empty for a storage without
        SQL."""

    @abc.abstractmethod
    async def now(self) -> datetime:
        """Return the time of the storage's clock."""
