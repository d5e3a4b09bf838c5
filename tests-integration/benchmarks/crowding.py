"""The cost of many idle worker processes for a server."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
from figures import Figures
from idling import SETTLING
from plan import Variant
from players import Player, Workers
from targets import Targets


def crowd(player: Player, targets: Targets, variant: Variant) -> Figures:
    """Measure idle workers: their total transactions a second, connections, and the connections' memory."""
    url = targets.ready(player, variant)
    meter = targets.store(player).meter(url)
    settling = min(SETTLING, variant.seconds)
    with Workers(player, url, variant.workers) as workers:
        player.ask("submit", url, within=targets.time_limit, warm_up=0, jobs=variant.workers)
        ran = workers.wait_for(variant.workers, targets.time_limit)["runs"]
        time.sleep(settling)
        connections, megabytes = _connections(url)
        before, began = meter.read(), time.monotonic()
        time.sleep(variant.seconds)
        used, seconds = meter.read().since(before), time.monotonic() - began
    rate = None if used.commits is None else round(used.commits / seconds, 2)
    more = {
        "connections": connections,
        "connection_mb": megabytes,
        "server_percent": None if used.cpu is None else round(used.cpu / seconds * 100, 3),
    }
    return Figures(
        value=rate,
        jobs=ran,
        asked=variant.workers,
        more={name: value for name, value in more.items() if value is not None},
    )


def _connections(url: str) -> tuple[int, float | None]:
    """Return the number of connections and the megabytes of memory per connection, with its share of shared memory.

    The memory is None on systems without /proc.
    """
    with psycopg.connect(url) as connection:
        pids = [
            row[0]
            for row in connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        ]
    shares: list[int] = []
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, PermissionError):
            return len(pids), None  # another system, another machine, or another's processes
        shares.append(sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")))
    return len(pids), round(sum(shares) / len(shares) / 1024, 2) if shares else None
