"""A server for the session (one per xdist worker) and a schema of its own for each test."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.testing import ThrowawayPostgres
from jobq_storage_postgres.testing.emptying import EMPTY, prepare_emptying


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


@pytest.fixture(scope="session")
def migrated_schema(postgres_server: ThrowawayPostgres) -> str:
    """A schema that is migrated once: see `empty_schema`."""
    name = f"jobq_{uuid.uuid4().hex[:12]}"
    asyncio.run(PostgresQueueStorage(postgres_server.dsn, schema=name).migrate())
    return name


@pytest.fixture(scope="session")
def emptying(postgres_server: ThrowawayPostgres, migrated_schema: str) -> Iterator[psycopg.Connection]:
    """A connection that can empty that schema."""
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        connection.execute(prepare_emptying(migrated_schema))
        yield connection


@pytest.fixture
def empty_schema(migrated_schema: str, emptying: psycopg.Connection) -> Iterator[str]:
    """The name of a schema with empty tables, for a test that writes rows and moves the clock, and alters nothing else.

    Such tests share it: to migrate takes longer than most of them.
    """
    yield migrated_schema
    emptying.execute(EMPTY)
