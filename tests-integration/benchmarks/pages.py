"""Measure the reads and the pages of operators on a storage that has a week of jobs.

python tests-integration/benchmarks/pages.py URL [--calls 50] [--only TEXT]
"""

from __future__ import annotations

import argparse
import asyncio
import time

import attrs
import psycopg
from figures import Figures, percentiles
from meters import Meter, PostgresMeter, less
from page_reads import Read, make_reads
from page_requests import make_requests
from plan import Variant
from players import Player
from targets import Targets

from jobq_core import open_storage


@attrs.frozen
class Timing:
    """Milliseconds of one read or page. cpu: the mean of the processor time of client and server."""

    p50: float
    p95: float
    cpu: float


def read_pages(player: Player, targets: Targets, variant: Variant) -> Figures:
    """Make each read of the pages as often as the variant has jobs; the compared figure is that of the slowest one."""
    url = targets.with_week(player, variant)
    timings = asyncio.run(_measure(url, variant.jobs, targets.store(player).meter(url)))
    slowest = max(timings, key=lambda name: timings[name].p95)
    more = {
        f"{name}, {key} ms": value for name, timing in timings.items() for key, value in attrs.asdict(timing).items()
    }
    return Figures(
        value=timings[slowest].p95, jobs=len(timings), asked=len(timings), note=f"slowest: {slowest}", more=more
    )


async def _measure(url: str, calls: int, meter: Meter, only: str = "") -> dict[str, Timing]:
    async with open_storage(url) as storage:
        await storage.sample_depths()
        reads = {**await make_reads(storage), **await make_requests(storage)}
        return {name: await _time(read, calls, meter) for name, read in reads.items() if only in name}


async def _time(read: Read, calls: int, meter: Meter) -> Timing:
    if calls > 1:
        await read()  # the first call prepares statements and compiles templates
    seconds: list[float] = []
    before, cpu = meter.read(), time.process_time()
    for _ in range(calls):
        began = time.perf_counter()
        await read()
        seconds.append(time.perf_counter() - began)
    cpu = time.process_time() - cpu
    cpu += less(meter.read().cpu, before.cpu) or 0.0
    found = percentiles(seconds) or {}
    return Timing(found["p50"], found["p95"], round(cpu / calls * 1000, 3))


def main() -> None:
    """Read the command line, and print a row for each read and page, the slowest last."""
    parser = argparse.ArgumentParser(prog="pages", description=__doc__)
    parser.add_argument("url", metavar="URL")
    parser.add_argument("--calls", type=int, default=50, help="how often each is made (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only those whose names contain this text")
    options = parser.parse_args()
    meter = Meter()
    if options.url.startswith("postgresql"):
        meter = PostgresMeter(psycopg.connect(options.url, autocommit=True))
        meter.database = psycopg.conninfo.conninfo_to_dict(options.url).get("dbname", "")
    timings = asyncio.run(_measure(options.url, options.calls, meter, options.only))
    print(f"{'':50} {'p50 ms':>8} {'p95 ms':>8} {'cpu ms':>8}")
    for name, timing in sorted(timings.items(), key=lambda item: item[1].p95):
        print(f"{name:50} {timing.p50:8.1f} {timing.p95:8.1f} {timing.cpu:8.1f}")


if __name__ == "__main__":
    main()
