"""How values of results become Python values: psycopg's adapters, with one change."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.pq import Format


def _adapters() -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    load_bytes = adapters.get_loader(psycopg.adapters.types["bytea"].oid, Format.BINARY)
    assert load_bytes is not None
    adapters.register_loader("json", load_bytes)
    return adapters


ADAPTERS: Final = _adapters()
"""JSON is returned as the bytes that were stored."""


class AdapterContext:
    """The context from which psycopg's connections take `ADAPTERS`."""

    adapters = ADAPTERS
    connection = None
