"""PostgreSQL with a full disk, for the tables or for the log: a small tmpfs, which only root can mount."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import psycopg
import pytest
from cluster import on_small_disk
from disks import full, refused
from journal import now
from load import PATIENT, Load
from scaling import Scale

from jobq_core import open_storage
from jobq_storage_postgres.testing import ThrowawayPostgres

MEGABYTES = {"base": 64, "pg_wal": 96}
"""The databases of a new cluster take about 30; the log always keeps at least two segments of 16."""


def use_up(server: ThrowawayPostgres) -> bool:
    """Switch the log to its next segment until there is no room for one; return whether an error showed that."""
    try:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            for _ in range(20):
                connection.execute("SELECT pg_logical_emit_message(false, 'jobq', 'full')")
                connection.execute("SELECT pg_switch_wal()")
    except psycopg.OperationalError:
        return True
    return False


def bring_back(server: ThrowawayPostgres, seconds: float = 60) -> None:
    """Restart a server that has ended, or is about to end, since it had no room to recover."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not server.running:
            server.start()
        try:
            psycopg.connect(server.dsn).close()
        except psycopg.OperationalError:
            time.sleep(0.1)  # the server only shows whether it answers
        else:
            return
    raise AssertionError("the server does not come back")


@pytest.mark.parametrize("part", ["base", "pg_wal"])
async def test_workers_and_clients_wait_for_a_full_disk_and_acknowledged_jobs_are_kept(
    load_on: Callable[..., Load], report: Callable[..., None], scale: Scale, seed: int, part: str
) -> None:
    """Without room for tables, statements fail; without room for the log, the server crashes, and may not restart."""
    times = scale.times(1, most=10)
    sizes = {"max_wal_size": "32MB", "min_wal_size": "32MB", "log_min_messages": "panic"}
    with on_small_disk(part, MEGABYTES[part], **sizes) as (server, disk):
        await open_storage(server.dsn).migrate()
        load = load_on(server.dsn)
        workers = [load.worker().started() for _ in range(2)]
        client = load.client(jobs=250 * times, rate=80, many=20, seed=seed, **PATIENT).started()
        longest = 0.0
        for _ in range(times):
            before = len(load.history().runs)
            await load.until(lambda history, before=before: len(history.runs) > before + 50)
            with full(disk):
                if part == "pg_wal":
                    assert await asyncio.to_thread(use_up, server)
                else:
                    await refused(server.dsn, "No space left on device")
                await asyncio.sleep(2)
            await asyncio.to_thread(bring_back, server)
            longest = max(longest, await load.next_run(now()))
        client.done(120)
        await load.drained()
        verdict = await load.verdict()
        report(f"disk full: {part}", tried=times, **verdict.figures | {"recovery": longest})
        assert verdict.text == ""
        assert verdict.answers == {"acknowledged"}
        assert all(worker.alive for worker in workers)
        for process in (*workers, client):
            process.term()
            process.wait()
