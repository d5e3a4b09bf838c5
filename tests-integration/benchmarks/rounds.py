"""Rounds that take turns: A B A B, so that disturbances of the machine affect all contestants."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from figures import Figures
from plan import Scenario, Variant
from players import ContestantError, Player
from results import Results
from targets import Targets

Measure = Callable[[Player, Targets, Variant], Figures]


def play(
    scenario: Scenario, players: Sequence[Player], measure: Measure, targets: Targets, rounds: int, results: Results
) -> None:
    """Measure all contestants in all variants `rounds` times, every second round in reverse order."""
    entries = [(player, variant) for variant in scenario.variants for player in players]
    found: dict[tuple[str, str], list[Figures]] = {}
    for number in range(1, rounds + 1):
        for player, variant in entries if number % 2 else entries[::-1]:
            figures = _measured(measure, player, targets, variant)
            found.setdefault((player.name, variant.name), []).append(figures)
            results.round(scenario, variant, player, targets.store(player).kind, number, figures)
            _say(scenario, variant, player, figures)
    for player, variant in entries:
        summary = summarise(found[player.name, variant.name])
        results.summary(scenario, variant, player, targets.store(player).kind, summary)


def _measured(measure: Measure, player: Player, targets: Targets, variant: Variant) -> Figures:
    try:
        return measure(player, targets, variant)
    except (ContestantError, psycopg.Error, OSError) as error:
        # The failure of one contestant is a result, and the others continue.
        return Figures(value=None, jobs=0, asked=variant.jobs, note=f"failed: {str(error)[-300:]}")


def _say(scenario: Scenario, variant: Variant, player: Player, figures: Figures) -> None:
    value = "–" if figures.value is None else f"{figures.value:,.1f} {scenario.unit}"
    short = "" if figures.finished else f" DID NOT FINISH: {figures.jobs} of {figures.asked}"
    print(
        f"{scenario.name} · {variant.name} · {player.name}: {value}{short} {figures.note}", file=sys.stderr, flush=True
    )


def summarise(rounds: Sequence[Figures]) -> dict[str, Any]:
    """Return the median and the spread of all figures, and whether a round did not finish."""
    values = [figures.value for figures in rounds if figures.value is not None and figures.finished]
    summary: dict[str, Any] = {
        "rounds": len(rounds),
        "median": statistics.median(values) if values else None,
        "min": min(values, default=None),
        "max": max(values, default=None),
    }
    for name in ("worker_cpu", "client_cpu", "server_cpu", "commits", "wal", "dead_rows"):
        some = [value for figures in rounds if (value := getattr(figures, name)) is not None]
        if some:
            summary[name] = round(statistics.median(some), 3)
    latencies = [figures.latency for figures in rounds if figures.latency]
    if latencies:
        summary["latency"] = {key: round(statistics.median(one[key] for one in latencies), 3) for key in latencies[0]}
    more = [figures.more for figures in rounds if figures.more]
    numbers = {key for one in more for key, value in one.items() if isinstance(value, int | float)}
    if numbers:
        summary["more"] = {
            key: round(statistics.median(one[key] for one in more if key in one), 3) for key in sorted(numbers)
        }
    unfinished = [figures for figures in rounds if not figures.finished]
    if unfinished:
        worst = min(unfinished, key=lambda figures: figures.jobs)
        summary["did_not_finish"] = f"{worst.jobs} of {worst.asked}"
    if notes := sorted({figures.note for figures in rounds if figures.note}):
        summary["notes"] = notes
    return summary
