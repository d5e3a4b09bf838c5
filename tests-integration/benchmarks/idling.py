"""The cost of an idle worker."""

from __future__ import annotations

import time

from figures import Figures
from meters import Meter, Reading
from plan import Variant
from players import Player, Workers
from targets import Targets

SETTLING = 12.0
"""Seconds after which the server's statistics include all that a now idle session did (PostgreSQL: 10)."""


def idle(player: Player, targets: Targets, variant: Variant) -> Figures:
    """Measure an idle worker. The server's own work, mostly autovacuum, is measured before and subtracted."""
    url = targets.ready(player, variant)
    meter = targets.store(player).meter(url)
    settling = min(SETTLING, variant.seconds)
    time.sleep(settling)  # until the statistics include the sessions that created the tables
    without = _watched(meter, variant.seconds)
    with Workers(player, url, variant.workers) as workers:
        player.ask("submit", url, within=targets.time_limit, warm_up=0, jobs=1)
        ran = workers.wait_for(1, targets.time_limit)["runs"]
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
