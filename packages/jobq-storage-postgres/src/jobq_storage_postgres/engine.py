"""`Engine`: what the operations of an open storage share."""

from __future__ import annotations

from typing import Any

from jobq_storage_postgres.binary import Params
from jobq_storage_postgres.caller_connection import CallerConnections
from jobq_storage_postgres.clock_steps import ClockSteps
from jobq_storage_postgres.database import Database
from jobq_storage_postgres.lines import LineRegister
from jobq_storage_postgres.notifier import Notifier
from jobq_storage_postgres.pool import Pool
from jobq_storage_postgres.schedules import ExpirationWindow, PartitionSchedule, PromotionWindow, PruneProgress
from jobq_storage_postgres.settings import Settings
from jobq_storage_postgres.sql import Statements
from jobq_storage_postgres.watermarks import Watermarks


class Engine:
    """The parts between opening and closing a storage; a storage that is opened again makes another engine."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.statements = Statements(settings.schema)
        self.pool = Pool(
            settings.address, size=settings.pool_size, time_limit=settings.time_limit, prepared=settings.prepared
        )
        self.database = Database(self.pool, settings.time_limit)
        self.notifier = Notifier(self.database, self.statements, settings)
        self.watermarks = Watermarks(self.database, self.statements, self.notifier.notify)
        self.clock_steps = ClockSteps()
        self.lines = LineRegister(self.database, self.statements)
        self.caller_connections = CallerConnections(
            self.database, self.statements, self.lines, self.notifier, settings.url
        )
        self.promotions = PromotionWindow()
        self.expirations = ExpirationWindow()
        self.pruning = PruneProgress()
        self.partitions = PartitionSchedule()

    async def fetch(self, name: str, *params: bytes | None) -> list[Any]:
        """Run the statement of this name and return its rows."""
        return await self.database.fetch(self.statements[name], params)

    async def fetch_all(self, *steps: tuple[str, Params]) -> list[list[Any]]:
        """Run statements by their names, as one transaction in one round trip, and return the rows of each."""
        return await self.database.fetch_all([(self.statements[name], params) for name, params in steps])

    async def stop(self) -> None:
        """End all subscriptions and connections, after the operations under way."""
        await self.watermarks.close()
        await self.notifier.stop()
        await self.pool.stop()


class Facet:
    """The base of the mixins that `PostgresQueueStorage` consists of, one per group of operations."""

    _engine: Engine
