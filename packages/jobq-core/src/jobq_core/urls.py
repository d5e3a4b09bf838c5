"""`open_storage`: from a URL to a storage, whichever distribution brings it."""

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
"""The entry points of jobq's own distributions: found without reading those of all that is installed, which takes 10 ms
and 3 MB."""


def open_storage(url: str | None = None) -> QueueStorage:
    """Return the storage that a URL names, not yet connected: use it with `async with`, or `await storage.open()`.

    Opening does not make PostgreSQL's tables: `jobq migrate` does, or `await storage.migrate()` before it is opened.

    url: 'postgresql://…', 'sqlite:///jobs.db', 'memory://', or another scheme that an installed distribution brings
    (default: the environment variable JOBQ_STORAGE). Raises ConfigurationError if nothing installed knows the scheme,
    or the URL cannot work; the error does not repeat what may be a password.
    """
    url = url or os.environ.get("JOBQ_STORAGE")
    if not url:
        raise ConfigurationError("no storage given: pass a URL such as sqlite:///jobs.db, or set JOBQ_STORAGE")
    scheme, mark, _ = url.partition("://")
    if not mark or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]{0,40}", scheme):
        # A URL with a slash too few, or key=value pairs, may have a password in it.
        said = "this" if set(url) & set("@=:") else short_repr(url)
        raise ConfigurationError(
            f"{said} is no URL of a storage: write sqlite:///jobs.db or postgresql://host/database"
        )
    return _find(scheme.lower()).from_url(scheme.lower() + url[len(scheme) :])


def as_storage(storage: QueueStorage | str) -> QueueStorage:
    """Return the storage that a URL names, or the storage given; raises ConfigurationError for what is neither."""
    if isinstance(storage, QueueStorage):
        return storage
    if not isinstance(storage, str):
        raise ConfigurationError(
            f"a storage is a URL, such as sqlite:///jobs.db, or a QueueStorage, not a {type(storage).__qualname__}"
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
    # Imported where it is used: it is slow.
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP, name=scheme):
        cls = entry.load()
        if not (isinstance(cls, type) and issubclass(cls, QueueStorage)):
            raise ConfigurationError(f"the entry point {entry.name!r} of {GROUP} is no QueueStorage: {cls!r}")
        return cls
    known = sorted({entry.name for entry in entry_points(group=GROUP)})
    raise ConfigurationError(
        f"no installed storage opens {scheme}://… (there are: {', '.join(known)}); "
        "install jobq-storage-postgres for postgresql:// or jobq-storage-sqlite for sqlite://"
    )
