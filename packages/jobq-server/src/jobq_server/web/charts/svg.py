"""Sparklines, stacked bars and lines.

A chart fills the width of its place, so its shapes are stretched: they are in a drawing within the drawing, which the
labels of the axes stand around. Colours are classes of the style sheet: a page may not have styles of its own. What a
step holds is a title, which browsers show under the pointer and screen readers read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
from markupsafe import Markup, escape

from jobq_server.web.charts.axes import Scale, Tick

WIDTH: Final = 600
HEIGHT: Final = 120
SPARK_WIDTH: Final = 120
SPARK_HEIGHT: Final = 24


@attrs.frozen
class Series:
    """What a chart shows of each step. name: the class of its colour. value: returns it of a step, or None."""

    name: str
    value: Callable[[Any], float | None]


@attrs.frozen(kw_only=True)
class Frame:
    """What is around the shapes. label: what the chart shows, in words. title: returns what a step holds, in words."""

    scale: Scale
    times: Sequence[Tick]
    title: Callable[[Any], str]
    label: str


def sparkline(values: Sequence[float], label: str, name: str = "accent") -> Markup:
    """Return a small line with the area below it. name: the class of its colour. label: what it shows, in words."""
    most = max(values, default=0.0)
    if most <= 0 or len(values) < 2:
        path, area = f"M0 {SPARK_HEIGHT - 1}H{SPARK_WIDTH}", ""
    else:
        points = [
            (index * SPARK_WIDTH / (len(values) - 1), SPARK_HEIGHT - 1 - value / most * (SPARK_HEIGHT - 3))
            for index, value in enumerate(values)
        ]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        area = f'<path class="area" d="{path}L{SPARK_WIDTH} {SPARK_HEIGHT}L0 {SPARK_HEIGHT}Z"/>'
    return Markup(
        f'<svg class="spark c-{escape(name)}" viewBox="0 0 {SPARK_WIDTH} {SPARK_HEIGHT}" preserveAspectRatio="none" '
        f'role="img" aria-label="{escape(label)}">{area}<path class="line" d="{path}"/></svg>'
    )


def stacked_bars(steps: Sequence[Any], series: Sequence[Series], frame: Frame) -> Markup:
    """Return a bar for each step, with the series from the bottom up."""
    width = WIDTH / max(len(steps), 1)
    shapes = []
    for index, step in enumerate(steps):
        y = float(HEIGHT)
        for one in series:
            height = (one.value(step) or 0.0) / frame.scale.top * HEIGHT
            y -= height
            if height:
                # A single failure among thousands must be seen.
                tall = max(height, 2.0)
                shapes.append(
                    f'<rect class="bar c-{one.name}" x="{index * width + width * 0.1:.2f}" '
                    f'y="{min(y, HEIGHT - tall):.2f}" width="{width * 0.8:.2f}" height="{tall:.2f}"/>'
                )
    return _chart(shapes, steps, frame)


def lines(steps: Sequence[Any], series: Sequence[Series], frame: Frame, *, filled: bool = False) -> Markup:
    """Return a line for each series; a step whose value is None interrupts it. filled: fill below the first line."""
    shapes = []
    for number, one in enumerate(series):
        for run in _runs([one.value(step) for step in steps]):
            points = [(_x(index, len(steps)), HEIGHT * (1 - value / frame.scale.top)) for index, value in run]
            if len(points) == 1:
                x, y = points[0]
                points = [(x - 1, y), (x + 1, y)]
            path = "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in points)
            if filled and number == 0:
                area = f"{path}L{points[-1][0]:.2f} {HEIGHT}L{points[0][0]:.2f} {HEIGHT}Z"
                shapes.append(f'<path class="area c-{one.name}" d="{area}"/>')
            shapes.append(f'<path class="line c-{one.name}" d="{path}"/>')
    return _chart(shapes, steps, frame)


def highest(steps: Sequence[Any], series: Sequence[Series]) -> float:
    """Return the highest value of the series, 0 without any."""
    return max((one.value(step) or 0.0 for step in steps for one in series), default=0.0)


def _chart(shapes: list[str], steps: Sequence[Any], frame: Frame) -> Markup:
    width = WIDTH / max(len(steps), 1)
    hits = [
        f'<rect class="hit" x="{index * width:.2f}" y="0" width="{width:.2f}" height="{HEIGHT}">'
        f"<title>{escape(frame.title(step))}</title></rect>"
        for index, step in enumerate(steps)
    ]
    across = [f"M0 {HEIGHT * (1 - tick.share):.1f}H{WIDTH}" for tick in frame.scale.ticks[1:]]
    down = [f"M{WIDTH * tick.share:.1f} 0V{HEIGHT}" for tick in frame.times]
    return Markup(
        f'<svg class="chart" role="img" aria-label="{escape(frame.label)}">'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none">'
        f'<path class="grid" d="{"".join([*across, *down])}"/><path class="axis" d="M0 {HEIGHT}H{WIDTH}"/>'
        f"{''.join(shapes)}{''.join(hits)}</svg>{_labels(frame)}</svg>"
    )


def _labels(frame: Frame) -> str:
    values = [f'<text class="y" y="{100 - 100 * tick.share:.1f}%">{tick.label}</text>' for tick in frame.scale.ticks]
    times = [f'<text class="x" x="{100 * tick.share:.1f}%" y="100%">{tick.label}</text>' for tick in frame.times]
    return "".join([*values, '<text class="zone" y="100%">UTC</text>', *times])


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Return the stretches without a None, with their indexes."""
    runs: list[list[tuple[int, float]]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((index, value))
    return [run for run in runs if run]


def _x(index: int, count: int) -> float:
    return (index + 0.5) * WIDTH / count


CHARTS: Final[dict[str, Any]] = {"sparkline": sparkline}
"""What the templates call."""
