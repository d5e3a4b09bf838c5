"""The cost of deleting finished jobs whose retention is over."""

from __future__ import annotations

import asyncio
import time

import psycopg
from figures import Figures, per_job
from plan import Variant
from players import Player
from targets import Targets

from jobq_core import Retention, open_storage
from jobq_core.storage import QueueOptions


def retire(player: Player, targets: Targets, variant: Variant) -> Figures:
    """Delete all finished jobs in batches, as maintenance does."""
    url = targets.ready(player, variant)
    meter = targets.store(player).meter(url)
    size = _size(url)
    before = meter.read()
    began = time.perf_counter()
    gone = asyncio.run(_prune_all(url))
    seconds = time.perf_counter() - began
    used = meter.read().since(before)
    return Figures(
        value=round(gone / seconds, 1),
        jobs=gone,
        asked=variant.finished,
        server_cpu=per_job(used.cpu, gone, 1e6),
        wal=per_job(used.wal, gone),
        dead_rows=meter.dead_rows(),
        more={"bytes_kept": per_job(size, variant.finished)},
    )


def _size(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])


async def _prune_all(url: str) -> int:
    async with open_storage(url) as storage:
        queues = await storage.counts()
        for queue in queues:
            await storage.set_queue(queue, QueueOptions(retention=Retention(completed=0)))
        gone = 0
        while pruned := await storage.prune():
            gone += pruned
        return gone
