"""How values of results become Python values: psycopg's adapters, with two changes."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Loader
from psycopg.pq import Format

from jobq_storage_postgres.binary import unpack_moment


class _TimestampLoader(Loader):
    """As psycopg's, but 'infinity', and years that Python lacks, become the last or first datetime."""

    format = Format.BINARY

    def load(self, data: Buffer) -> datetime:
        return unpack_moment(bytes(data))


def _adapters() -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    load_bytes = adapters.get_loader(psycopg.adapters.types["bytea"].oid, Format.BINARY)
    assert load_bytes is not None
    adapters.register_loader("json", load_bytes)
    adapters.register_loader("timestamptz", _TimestampLoader)
    return adapters


ADAPTERS: Final = _adapters()
"""JSON is returned as the bytes that were stored; timestamps never overflow."""


class AdapterContext:
    """The context from which psycopg's connections take `ADAPTERS`."""

    adapters = ADAPTERS
    connection = None
