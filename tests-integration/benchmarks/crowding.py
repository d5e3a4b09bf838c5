"""What many worker processes cost a server while none of them has anything to do."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
from figures import Figures
from idling import SETTLING
from places import Places
from plan import Variant
from players import Player, Workers


def crowd(player: Player, places: Places, variant: Variant) -> Figures:
    """Watch idle workers: transactions a second of all together, their connections, and what those take."""
    url = places.ready(player, variant)
    meter = places.store(player).meter(url)
    settling = min(SETTLING, variant.seconds)
    with Workers(player, url, variant.workers) as workers:
        player.ask("submit", url, within=places.patience, warm_up=0, jobs=variant.workers)
        ran = workers.wait_for(variant.workers, places.patience)["runs"]
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
    """Return how many there are, and the megabytes of memory that one takes: its own, and its share of what is shared.

    None where there is no /proc to ask.
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
