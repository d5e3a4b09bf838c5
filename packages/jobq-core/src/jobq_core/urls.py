"""`open_storage`: makes the storage of a URL, from any installed distribution."""

from __future__ import annotations

import os
import re
from importlib import import_module  # noqa: TID251  (of the table below, and nothing else)
from typing import Final

from jobq_core.errors import ConfigurationError
from jobq_core.reprs import short_repr
from jobq_core.storage import QueueStorage

GROUP: Final = "jobq.storages"
"""The entry points: URL scheme → QueueStorage class."""

OWN: Final = {
    "memory": ("jobq_core.memory", "MemoryQueueStorage"),
    "postgres": ("jobq_storage_postgres", "PostgresQueueStorage"),
    "postgresql": ("jobq_storage_postgres", "PostgresQueueStorage"),
    "sqlite": ("jobq_storage_sqlite", "SqliteQueueStorage"),
}
"""The entry points of jobq's own distributions. Reading those of all installed distributions takes 10 ms and 3 MB."""


def open_storage(url: str | None = None) -> QueueStorage:
    """Return the storage of a URL, not connected: use it with `async with`, or call `await storage.open()`.

    Opening does not create PostgreSQL's tables. Run `jobq migrate`, or `await storage.migrate()` before opening it.

    url: 'postgresql://…', 'sqlite:///jobs.db', 'memory://', or a URL with the scheme of another installed storage
        (default: the environment variable JOBQ_STORAGE).

    Raises ConfigurationError if no installed storage has the scheme, or if the URL cannot work. The error never repeats
    a part of the URL that may be a password.
    """
    url = url or os.environ.get("JOBQ_STORAGE")
    if not url:
        raise ConfigurationError("no storage given: pass a URL such as sqlite:///jobs.db, or set JOBQ_STORAGE")
    scheme, mark, _ = url.partition("://")
    if not mark or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]{0,40}", scheme):
        # A URL that lacks a slash, or key=value pairs, may have a password in it.
        given = "this" if set(url) & set("@=:") else short_repr(url)
        raise ConfigurationError(
            f"{given} is not the URL of a storage; write sqlite:///jobs.db or postgresql://host/database"
        )
    return _find(scheme.lower()).from_url(scheme.lower() + url[len(scheme) :])


def as_storage(storage: QueueStorage | str) -> QueueStorage:
    """Return the storage of a URL, or the given storage. Raises ConfigurationError for any other value."""
    if isinstance(storage, QueueStorage):
        return storage
    if not isinstance(storage, str):
        raise ConfigurationError(
            f"storage must be a URL, such as sqlite:///jobs.db, or a QueueStorage, not a {type(storage).__qualname__}"
        )
    return open_storage(storage)


def _find(scheme: str) -> type[QueueStorage]:
    if scheme in OWN:
        module, name = OWN[scheme]
        try:
            own: type[QueueStorage] = getattr(import_module(module), name)
            return own
        except ImportError as error:
            if not (isinstance(error, ModuleNotFoundError) and error.name == module):
                raise ConfigurationError(
                    f"{scheme}:// needs {module}, which cannot be imported here: {error}"
                ) from error
    # Imported here because it is slow.
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP, name=scheme):
        cls = entry.load()
        if not (isinstance(cls, type) and issubclass(cls, QueueStorage)):
            raise ConfigurationError(
                f"the entry point {entry.name!r} of {GROUP} must be a QueueStorage, not {short_repr(cls)}"
            )
        return cls
    known = sorted({entry.name for entry in entry_points(group=GROUP)})
    raise ConfigurationError(
        f"no installed storage opens {scheme}://… (installed: {', '.join(known)}); "
        "install jobq-storage-postgres for postgresql:// or jobq-storage-sqlite for sqlite://"
    )
