"""A plot for each scenario, as SVG, legible without colours: bars have labels, lines have marks."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from reading import Outcome

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "jobq"  # the same figures make the same file
mpl.rcParams["svg.fonttype"] = "none"  # text as text: a tenth of the size

SHADES = ["#1b4f72", "#d68910", "#7f8c8d", "#76b7b2", "#b03a2e", "#59a14f", "#af7aa1", "#9c755f", "#bab0ac"]
MARKS = ["o", "s", "^", "D", "v", "P", "X", "*", "<"]
DASHES = ["-", "--", ":", "-."]


def draw(outcome: Outcome, folder: Path) -> Path:
    """Draw one scenario and return the SVG."""
    figure, axes = plt.subplots(figsize=(8, _height(outcome)), layout="constrained")
    if any(outcome.series(c, v) for c in outcome.contestants for v in outcome.variants):
        _over_time(outcome, axes)
    elif any("x" in line for line in outcome.summaries):
        _curve(outcome, axes)
    else:
        _bars(outcome, axes)
    axes.set_title(f"{outcome.title}\n{outcome.run.storage}", fontsize=10)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{outcome.stem}.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def _height(outcome: Outcome) -> float:
    curved = any("x" in line for line in outcome.summaries) or outcome.name == "pinned"
    return 4.5 if curved else 1.4 + 0.32 * len(outcome.summaries) + 0.2 * len(outcome.variants)


def _bars(outcome: Outcome, axes: Axes) -> None:
    """Draw a bar for each contestant in each variant, from top to bottom, with a whisker from minimum to maximum."""
    position = 0.0
    ticks: list[tuple[float, str]] = []
    shown: set[str] = set()
    for variant in outcome.variants:
        for number, contestant in enumerate(outcome.contestants):
            line = outcome.of(contestant, variant)
            if line is None:
                continue
            label = contestant + (f" · {variant}" if variant else "")
            if line["median"] is None:
                label += " (did not finish)"
            else:
                value = line["median"]
                spread = [[value - line["min"]], [line["max"] - value]]
                look: dict[str, Any] = {"color": SHADES[number % 9], "edgecolor": "white"}
                axes.barh(position, value, 0.8, xerr=spread, error_kw={"capsize": 3, "lw": 1}, **look)
                axes.annotate(
                    f" {value:,.0f}" if value >= 100 else f" {value:.3g}",
                    (line["max"], position),
                    va="center",
                    fontsize=8,
                )
                shown.add(contestant)
            ticks.append((position, label))
            position -= 1
        position -= 0.6
    axes.set_yticks([at for at, _ in ticks], [label for _, label in ticks], fontsize=8)
    axes.set_xlabel(outcome.unit)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.12)


def _curve(outcome: Outcome, axes: Axes) -> None:
    """Draw a line for each contestant, with whiskers from minimum to maximum."""
    for contestant, shade, mark, dash in zip(outcome.contestants, cycle(SHADES), cycle(MARKS), cycle(DASHES)):
        lines = [line for line in outcome.summaries if line["contestant"] == contestant and line["median"] is not None]
        values = [line["median"] for line in lines]
        spread = [[line["median"] - line["min"] for line in lines], [line["max"] - line["median"] for line in lines]]
        x = [line["x"] for line in lines]
        axes.errorbar(x, values, yerr=spread, color=shade, marker=mark, linestyle=dash, capsize=3, label=contestant)
    axes.set_xscale("log")
    points = sorted({line["x"] for line in outcome.summaries})
    axes.set_xticks(points, [f"{point:,}" for point in points])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel(outcome.title.rpartition("by ")[2])
    axes.set_ylabel(outcome.unit)
    axes.legend(fontsize=8)


def _over_time(outcome: Outcome, axes: Axes) -> None:
    """Draw p50 (thin) and p99 (thick) over the seconds of the first round, in forty groups."""
    looks = zip(cycle(SHADES), cycle(MARKS), cycle(DASHES))
    for contestant in outcome.contestants:
        for variant in outcome.variants:
            points = [point for point in outcome.series(contestant, variant) if "p99" in point]
            if not points:
                continue
            shade, mark, dash = next(looks)
            width = max(len(points) // 40, 1)
            groups = [points[start : start + width] for start in range(0, len(points), width)]
            seconds = [group[-1]["second"] for group in groups]
            for name, line in (("p50", 0.8), ("p99", 1.8)):
                values = [max(point[name] for point in group) for group in groups]
                label = f"{contestant} · {variant}, p99" if name == "p99" else None
                axes.plot(seconds, values, dash, color=shade, marker=mark, ms=3, lw=line, label=label)
    axes.set_yscale("log")
    axes.set_xlabel("seconds")
    axes.set_ylabel("ms from add to handler (thin: p50)")
    axes.legend(fontsize=7)
