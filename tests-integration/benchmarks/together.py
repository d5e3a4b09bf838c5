"""Adding and draining at the same time."""

from __future__ import annotations

from figures import Figures, per_job, percentiles
from meters import less
from plan import Variant
from players import Player, Workers
from targets import Targets


def together(player: Player, targets: Targets, variant: Variant) -> Figures:
    """Add from many callers while workers run. The value is the jobs a second that were added and started."""
    url = targets.ready(player, variant)
    meter = targets.store(player).meter(url)
    jobs = variant.jobs
    with Workers(player, url, variant.workers) as workers:
        player.ask("submit", url, within=targets.time_limit, warm_up=0, jobs=1)
        ran = workers.wait_for(1, targets.time_limit)["runs"]
        before, cpu = meter.read(), workers.cpu()
        answer = player.ask(
            "group",
            url,
            within=targets.time_limit,
            jobs=jobs,
            callers=variant.callers,
            payload=variant.payload,
            warm_up=0,
        )
        ended = answer["began"] + answer["seconds"]
        tally = workers.wait_for(ran + jobs, targets.time_limit)
        used, cpu_after = meter.read().since(before), workers.cpu()
    done = tally["runs"] - ran
    return Figures(
        value=round(done / (max(tally["last"], ended) - answer["began"]), 1),
        jobs=done,
        asked=jobs,
        latency=percentiles(answer["latencies"]),
        worker_cpu=per_job(less(cpu_after, cpu), done, 1e6),
        client_cpu=per_job(answer["cpu"], done, 1e6),
        server_cpu=per_job(used.cpu, done, 1e6),
        commits=per_job(used.commits, done),
        wal=per_job(used.wal, done),
        dead_rows=meter.dead_rows(),
        more={"added_per_second": round(jobs / answer["seconds"], 1), "behind": round(tally["last"] - ended, 3)},
    )
