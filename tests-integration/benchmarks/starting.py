"""The time and memory that a web application needs to import the client and to connect."""

from __future__ import annotations

import json
import statistics
import subprocess

from figures import Figures
from plan import Variant
from players import ContestantError, Player
from targets import Targets

# VmHWM covers only this program; getrusage would include the process before exec.
PROGRAM = """
import sys, time
began = time.perf_counter()
{imports}
seconds = time.perf_counter() - began
import asyncio, json
url = sys.argv[1]
async def connect():
    await {connects}
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(json.dumps([seconds, asyncio.run(connect())]), flush=True)
"""


def start(player: Player, targets: Targets, variant: Variant) -> Figures:
    """Start fresh processes one after another. The first, which may compile modules, is not counted."""
    kind = targets.store(player).kind
    url = targets.ready(player, variant)
    program = PROGRAM.format(imports=player.about["imports"][kind], connects=player.about["connects"])
    found: list[tuple[float, int]] = []
    for _ in range(variant.jobs + 1):
        command = [str(player.python), "-I", "-c", program, url]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=targets.time_limit, check=False)
        if asked.returncode:
            raise ContestantError(f"{player.name}: importing and connecting failed: {asked.stderr[-2000:]}")
        seconds, kibibytes = json.loads(asked.stdout)
        found.append((seconds, kibibytes))
    times, sizes = zip(*found[1:], strict=True)
    return Figures(
        value=round(statistics.median(times) * 1000, 2),
        jobs=len(times),
        asked=variant.jobs,
        more={"peak_mb": round(statistics.median(sizes) * 1024 / 1e6, 2)},
    )
