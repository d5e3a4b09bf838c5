"""The rate at which the same worker processes drain the same jobs from one database server, or from several."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from figures import Figures, per_job
from plan import Variant
from players import Player, Workers
from stores import PostgresStore, Store
from targets import Targets


def spread(player: Player, targets: Targets, variant: Variant) -> Figures:
    """Start `x` servers, give each its share of jobs and workers, and drain all of them at once."""
    servers = int(variant.x or 1)
    jobs = variant.jobs // servers
    with ExitStack() as stack:
        sides: list[tuple[Store, str]] = []
        for _ in range(servers):
            store = stack.enter_context(PostgresStore(None))
            url = store.create()
            player.ask("setup", url, within=targets.time_limit)
            player.ask("fill", url, within=targets.time_limit, jobs=jobs)
            store.calm(url)
            sides.append((store, url))
        meters = [store.meter(url) for store, url in sides]
        before = [meter.read() for meter in meters]
        crews = [stack.enter_context(Workers(player, url, variant.workers // servers)) for _, url in sides]
        tallies: list[dict[str, Any]] = [crew.wait_for(jobs, targets.time_limit) for crew in crews]
        used = [meter.read().since(earlier) for meter, earlier in zip(meters, before, strict=True)]
    runs = sum(tally["runs"] for tally in tallies)
    seconds = max(tally["last"] for tally in tallies) - min(tally["first"] for tally in tallies)
    cpu = [one.cpu for one in used if one.cpu is not None]
    return Figures(
        value=round(runs / seconds, 1) if seconds > 0 else None,
        jobs=runs,
        asked=variant.jobs,
        server_cpu=per_job(sum(cpu) if len(cpu) == servers else None, runs, 1e6),
        wal=per_job(sum(one.wal or 0 for one in used), runs),
        more={"seconds": round(seconds, 3)},
    )
