"""The rate at which one process adds jobs: one after another, concurrently, in bulk, or waiting for each result."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from contestants.protocol import Tally
from figures import Figures, per_job, percentiles
from plan import Variant
from players import Player, Workers
from targets import Targets


def adding(verb: str) -> Callable[[Player, Targets, Variant], Figures]:
    """Return the measurement of a verb that adds jobs."""

    def measure(player: Player, targets: Targets, variant: Variant) -> Figures:
        url = targets.ready(player, variant)
        meter = targets.store(player).meter(url)
        with ExitStack() as stack:
            tally: Path | None = None
            if verb == "ask" and targets.in_one_process:
                tally = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobq-tally-")), "tally")
                Tally.create(tally)
            elif verb == "ask":
                workers = stack.enter_context(Workers(player, url, variant.workers, extra=variant.settings))
                player.ask("submit", url, within=targets.time_limit, warm_up=0, jobs=1)
                workers.wait_for(1, targets.time_limit)
            before = meter.read()
            answer = player.ask(
                verb,
                url,
                within=targets.time_limit,
                extra=variant.settings,
                jobs=variant.jobs,
                callers=variant.callers,
                payload=variant.payload,
                tally=tally,
            )
        used = meter.read().since(before)
        jobs = answer["jobs"]
        return Figures(
            value=round(jobs / answer["seconds"], 1),
            jobs=jobs,
            asked=variant.jobs,
            latency=percentiles(answer["latencies"]),
            client_cpu=per_job(answer["cpu"], jobs, 1e6),
            server_cpu=per_job(used.cpu, jobs, 1e6),
            commits=per_job(used.commits, jobs),
            wal=per_job(used.wal, jobs),
            dead_rows=meter.dead_rows(),
        )

    return measure
