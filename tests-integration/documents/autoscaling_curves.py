"""Draw docs/guides/autoscaling.svg: what an Autoscaler does under five loads.

    python tests-integration/documents/autoscaling_curves.py

The picture has the fingerprint of its curves, by which a test knows whether today's code would draw the same ones.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path

import attrs

from jobq_server import Autoscaler, simulate
from jobq_server.autoscaling import Point

PICTURE = Path(__file__).parents[2] / "docs" / "guides" / "autoscaling.svg"
AUTOSCALER = Autoscaler(min=1, max=50, target_wait=5)
STEP = 20
"""Seconds between two drawn points."""


@attrs.frozen(kw_only=True)
class Scenario:
    """A load, and what is said of it. arrivals: jobs a second; run_seconds: their mean length.

    processor: the share of a processor that each needs, where the number of processes is scaled.
    """

    title: str
    arrivals: Callable[[float], float]
    run_seconds: float
    minutes: int
    capacity: float = float("inf")
    processor: float = 0.0

    def points(self) -> list[Point]:
        return simulate(
            attrs.evolve(AUTOSCALER, max_processes=8 if self.processor else None),
            arrivals=self.arrivals,
            run_seconds=self.run_seconds,
            duration=60 * self.minutes,
            capacity=self.capacity,
            processor=self.processor,
        )


SCENARIOS = [
    Scenario(
        title="A daily wave (in an hour): 0 to 20 jobs a second, 1 s each",
        arrivals=lambda at: 10 * (1 - math.cos(2 * math.pi * at / 3600)) if at < 3600 else 0,
        run_seconds=1,
        minutes=70,
    ),
    Scenario(
        title="A burst: 2 jobs a second, 40 from minute 10 to 15, 0.8 s each",
        arrivals=lambda at: 40 if 600 <= at < 900 else 2 if at < 1500 else 0,
        run_seconds=0.8,
        minutes=35,
    ),
    Scenario(
        title="Long jobs: one a second for 30 seconds, 5 minutes each",
        arrivals=lambda at: 1 if 60 <= at < 90 else 0,
        run_seconds=300,
        minutes=40,
    ),
    Scenario(
        title="A service at its limit: 20 jobs a second, of which it can do 8",
        arrivals=lambda at: 20 if 60 <= at < 900 else 0,
        run_seconds=0.5,
        minutes=40,
        capacity=4,
    ),
    Scenario(
        title="Jobs that compute, a wave: 0 to 10 jobs a second, 0.5 s of a processor each",
        arrivals=lambda at: 5 * (1 - math.cos(2 * math.pi * at / 3600)) if at < 3600 else 0,
        run_seconds=0.5,
        minutes=70,
        processor=1.0,
    ),
]


def fingerprint() -> str:
    """Return a digest of the numbers of workers and processes in all scenarios."""
    digest = hashlib.sha256()
    for scenario in SCENARIOS:
        numbers = [(point.workers, point.processes) for point in scenario.points()]
        digest.update(repr((scenario.title, numbers)).encode())
    return digest.hexdigest()


def draw() -> None:
    """Draw the picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams |= {"svg.hashsalt": "jobq", "svg.fonttype": "none"}
    from matplotlib import pyplot as plt

    figure, rows = plt.subplots(len(SCENARIOS), figsize=(8, 12), layout="constrained")
    for scenario, axes in zip(SCENARIOS, rows, strict=True):
        points = scenario.points()
        parts = [points[start : start + STEP] for start in range(0, len(points), STEP)]
        edges = [part[0].at / 60 for part in parts] + [float(scenario.minutes)]
        busy = [sum(point.busy for point in part) / len(part) for part in parts]
        axes.stairs(busy, edges, fill=True, color="#d68910", alpha=0.5, label="busy workers")
        changes = [one for one, two in itertools.pairwise(points) if one.workers != two.workers] + points[-1:]
        ends = [0.0] + [point.at / 60 for point in changes]
        workers = [point.workers for point in changes]
        axes.stairs(workers, ends, baseline=None, color="#1b4f72", linewidth=1.5, label="workers")
        if scenario.processor:
            changes = [one for one, two in itertools.pairwise(points) if one.processes != two.processes] + points[-1:]
            ends = [0.0] + [point.at / 60 for point in changes]
            processes = [point.processes for point in changes]
            axes.stairs(processes, ends, baseline=None, color="#117a65", linewidth=2.5, label="processes")
        wait = axes.twinx()
        oldest = [max(point.oldest for point in part) for part in parts]
        wait.plot(edges[:-1], oldest, ":", color="#7f8c8d", label="wait of the oldest job, in seconds")
        wait.set_ylim(0, max(20.0, max(oldest) * 1.1))
        axes.set_ylim(0, 12 if scenario.processor else 55)
        axes.set_title(scenario.title, fontsize=10)
        axes.set_ylabel("workers")
        wait.set_ylabel("seconds")
        axes.grid(alpha=0.3)
    rows[-1].set_xlabel("minutes")
    shown = [*rows[-1].get_legend_handles_labels()[0], *wait.get_legend_handles_labels()[0]]
    figure.legend(handles=shown, loc="outside lower center", ncols=4, fontsize=9)
    figure.savefig(PICTURE, metadata={"Date": None, "Description": fingerprint()})
    drawn = PICTURE.read_text(encoding="utf-8")
    PICTURE.write_text(re.sub(r"(\d\.\d)\d+", r"\1", drawn), encoding="utf-8")  # a third of the size


if __name__ == "__main__":
    draw()
