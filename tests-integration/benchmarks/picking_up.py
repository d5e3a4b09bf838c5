"""The pick-up time of an idle worker: from just before the call that adds the job to its handler."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from contestants.protocol import Tally, read_tally
from figures import Figures, per_job, percentiles
from meters import less
from plan import Variant
from players import Player, Workers
from targets import Targets

WARM_UP = 5


def pick_up(player: Player, targets: Targets, variant: Variant) -> Figures:
    """Add jobs one at a time, each for an idle worker."""
    url = targets.ready(player, variant)
    if targets.in_one_process:
        return _in_one_process(player, targets, variant, url)
    meter = targets.store(player).meter(url)
    with Workers(player, url, variant.workers) as workers:
        player.ask("submit", url, within=targets.time_limit, warm_up=0, jobs=WARM_UP)
        early = Counter(workers.wait_for(WARM_UP, targets.time_limit)["latencies"])
        before, cpu = meter.read(), workers.cpu()
        player.ask("submit", url, within=targets.time_limit, warm_up=0, jobs=variant.jobs)
        tally = workers.wait_for(WARM_UP + variant.jobs, targets.time_limit)
        used, cpu_after = meter.read().since(before), workers.cpu()
    late = list((Counter(tally["latencies"]) - early).elements())
    return _figures(
        late,
        variant,
        worker_cpu=per_job(less(cpu_after, cpu), variant.jobs, 1e6),
        server_cpu=per_job(used.cpu, variant.jobs, 1e6),
    )


def _in_one_process(player: Player, targets: Targets, variant: Variant, url: str) -> Figures:
    with tempfile.TemporaryDirectory(prefix="jobq-tally-") as folder:
        tally = Path(folder, "tally")
        Tally.create(tally)
        player.ask("submit", url, within=targets.time_limit, warm_up=0, jobs=variant.jobs, tally=tally)
        return _figures(read_tally(tally)["latencies"], variant)


def _figures(late: list[float], variant: Variant, **used: float | None) -> Figures:
    latency = percentiles(late)
    value = latency["p50"] if latency else None
    return Figures(value=value, jobs=len(late), asked=variant.jobs, latency=latency, **used)  # type: ignore[arg-type]
