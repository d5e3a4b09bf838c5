"""Pick-up times at a steady rate, over minutes, while a pinned snapshot prevents the removal of dead rows."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import Any

from contestants.protocol import read_tally
from figures import Figures, per_job, percentiles
from meters import less
from plan import Variant
from players import ContestantError, Player, Workers, started
from stores import PostgresStore
from targets import Targets


def pinned(player: Player, targets: Targets, variant: Variant) -> Figures:
    """Add at a steady rate. The value is the p99 of pick-up times; `grew` is that of the last fifth over the first."""
    url = targets.ready(player, variant)
    store = targets.store(player)
    meter = store.meter(url)
    with ExitStack() as stack:
        workers = stack.enter_context(Workers(player, url, variant.workers))
        player.ask("submit", url, within=targets.time_limit, warm_up=0, jobs=1)
        warm = workers.wait_for(1, targets.time_limit)
        if variant.pinned:
            assert isinstance(store, PostgresStore)
            stack.enter_context(store.pinned(url, variant.pinned))
        before, cpu = meter.read(), workers.cpu()
        command = player.command("pace", url, warm_up=0, rate=variant.rate, seconds=variant.seconds)
        with started(command) as process:
            series = _watch(workers, process.poll, len(warm["latencies"]), variant.seconds + targets.time_limit)
            if process.poll() != 0:
                said = "" if process.poll() is None or process.stderr is None else process.stderr.read()[-2000:]
                raise ContestantError(f"{player.name}: adding at a steady rate failed: {said}")
            assert process.stdout is not None
            answer: dict[str, Any] = json.loads(process.stdout.read().splitlines()[-1])
        tally = workers.wait_for(warm["runs"] + answer["jobs"], targets.time_limit)
        used, cpu_after = meter.read().since(before), workers.cpu()
        dead = meter.dead_rows()
    done = tally["runs"] - warm["runs"]
    late = tally["latencies"][len(warm["latencies"]) :]
    latency = percentiles(late)
    fifth = max(len(late) // 5, 1)
    first, last = percentiles(late[:fifth]), percentiles(late[-fifth:])
    return Figures(
        value=latency["p99"] if latency else None,
        jobs=done,
        asked=answer["jobs"],
        latency=latency,
        worker_cpu=per_job(less(cpu_after, cpu), done, 1e6),
        server_cpu=per_job(used.cpu, done, 1e6),
        commits=per_job(used.commits, done),
        wal=per_job(used.wal, done),
        dead_rows=dead,
        more={
            "grew": round(last["p99"] / first["p99"], 2) if first and last else None,
            "late_calls": answer["late"],
            "per_second": round(answer["jobs"] / variant.seconds),
            "series": series,
        },
    )


def _watch(workers: Workers, ended: Any, seen: int, time_limit: float) -> list[dict[str, float]]:
    """Return the number of timed pick-ups in each second, and their p50 and p99 in ms."""
    began = time.monotonic()
    series: list[dict[str, float]] = []
    while time.monotonic() - began < time_limit:
        running = ended() is None
        time.sleep(max(0.0, began + len(series) + 1 - time.monotonic()) if running else 0)
        latencies = read_tally(workers.tally)["latencies"]
        latency = percentiles(latencies[seen:])
        series.append({"second": len(series) + 1, **({} if latency is None else latency)})
        seen = len(latencies)
        workers.check()
        if not running:
            break
    return series
