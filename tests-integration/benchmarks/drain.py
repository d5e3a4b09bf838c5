"""The rate at which workers drain a queue, from the start of the first handler to the start of the last."""

from __future__ import annotations

from figures import Figures, per_job
from meters import less
from plan import Variant
from players import Player, Workers
from targets import Targets


def drain(player: Player, targets: Targets, variant: Variant) -> Figures:
    """Fill the queue, then let the workers run until every job has started, or they stall."""
    jobs = variant.jobs
    url = targets.filled(player, variant)
    extra = {**variant.settings, **targets.alone(variant)}
    meter = targets.store(player).meter(url)
    before = meter.read()
    with Workers(player, url, variant.workers, sleep=variant.sleep, extra=extra) as workers:
        first = workers.wait_for(1, targets.time_limit)
        began, cpu = meter.read(), workers.cpu()
        last = workers.wait_for(jobs, targets.time_limit)
        ended, cpu_after = meter.read(), workers.cpu()
    whole = meter.read().since(before)
    used = ended.since(began)
    done = last["runs"] - first["runs"]
    seconds = last["last"] - last["first"]
    rate = (last["runs"] - 1) / seconds if seconds > 0 else None
    return Figures(
        value=None if rate is None else round(rate, 1),
        jobs=last["runs"],
        asked=jobs,
        worker_cpu=per_job(less(cpu_after, cpu), done, 1e6),
        server_cpu=per_job(used.cpu, done, 1e6),
        commits=per_job(whole.commits, last["runs"]),
        wal=per_job(whole.wal, last["runs"]),
        dead_rows=meter.dead_rows(),
        more={"seconds": round(seconds, 3)},
    )
