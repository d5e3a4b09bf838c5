"""A server for the session (one per xdist worker) and a schema of its own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from jobq_storage_postgres.testing import ThrowawayPostgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[ThrowawayPostgres]:
    """A server that nobody restarts; a test that wants an outage starts its own."""
    with ThrowawayPostgres() as server:
        yield server


@pytest.fixture
def postgres_dsn(postgres_server: ThrowawayPostgres) -> str:
    return postgres_server.dsn


@pytest.fixture
def postgres_schema(postgres_dsn: str) -> Iterator[str]:
    """A name for a schema that does not exist yet; whatever has it in the end is dropped."""
    name = f"jobq_{uuid.uuid4().hex[:12]}"
    yield name
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")
