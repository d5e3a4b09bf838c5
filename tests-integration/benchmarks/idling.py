"""What a worker costs that has nothing to do."""

from __future__ import annotations

import time

from figures import Figures
from meters import Meter, Reading
from places import Places
from plan import Variant
from players import Player, Workers

SETTLING = 12.0
"""Seconds after which a session that went idle has told the server's statistics all it did (PostgreSQL: 10)."""


def idle(player: Player, places: Places, variant: Variant) -> Figures:
    """Watch an idle worker; what the server does anyway, autovacuum above all, is measured before and subtracted."""
    url = places.ready(player, variant)
    meter = places.store(player).meter(url)
    settling = min(SETTLING, variant.seconds)
    time.sleep(settling)  # until the sessions that made the tables are counted
    without = _watched(meter, variant.seconds)
    with Workers(player, url, variant.workers) as workers:
        player.ask("submit", url, within=places.patience, warm_up=0, jobs=1)
        ran = workers.wait_for(1, places.patience)["runs"]
        time.sleep(settling)
        cpu = workers.cpu()
        used = _watched(meter, variant.seconds)
        cpu_after = workers.cpu()
    seconds = variant.seconds
    commits = used.since(without).commits
    more: dict[str, float | None] = {
        "transactions_per_second": None if commits is None else round(max(commits, 0) / seconds, 3),
        "server_percent": None if used.cpu is None else round((used.cpu - (without.cpu or 0)) / seconds * 100, 3),
    }
    return Figures(
        value=None if cpu is None or cpu_after is None else round((cpu_after - cpu) / seconds * 100, 3),
        jobs=ran,
        asked=1,
        more={name: value for name, value in more.items() if value is not None},
    )


def _watched(meter: Meter, seconds: float) -> Reading:
    before = meter.read()
    time.sleep(seconds)
    return meter.read().since(before)
