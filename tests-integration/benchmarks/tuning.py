"""The best settings of each contestant: it names several, each is tried briefly, and the best is kept."""

from __future__ import annotations

from typing import Any

from plan import Scale, Scenario, Variant
from players import ContestantError, Player
from results import Results
from rounds import Measure
from targets import Targets

FAMILY = {"drain": "work", "together": "work", "pinned": "work", "idle": "work", "pick_up": "work"}
"""The verb whose settings apply to a measurement, if its name differs."""


class Tuning:
    """Keeps the chosen settings of every contestant and kind of measurement."""

    def __init__(self, measures: dict[str, Measure], targets: Targets, results: Results) -> None:
        self._measures = measures
        self._targets = targets
        self._results = results
        self._chosen: dict[tuple[str, str], Player] = {}

    def best(self, player: Player, scenario: Scenario) -> Player:
        """Return the contestant with its best settings for this kind of scenario."""
        judge = "pick_up" if scenario.measure == "pick_up" else FAMILY.get(scenario.measure, scenario.measure)
        judge = "drain" if judge == "work" else judge
        verb = FAMILY.get(scenario.measure, scenario.measure)
        grid = player.about["settings"].get(verb, [])
        if len(grid) < 2 or judge not in self._measures:
            return player
        if (player.name, judge) not in self._chosen:
            self._chosen[player.name, judge] = self._choose(player, verb, judge, grid)
        return self._chosen[player.name, judge]

    def _choose(self, player: Player, verb: str, judge: str, grid: list[dict[str, Any]]) -> Player:
        brief = _brief(judge, self._targets.scale)
        less = judge == "pick_up"
        tried: list[dict[str, Any]] = []
        for settings in grid:
            try:
                figures = self._measures[judge](player.with_settings(verb, settings), self._targets, brief)
            except ContestantError as error:
                tried.append({"settings": settings, "value": None, "note": str(error)[-300:]})
            else:
                tried.append({"settings": settings, "value": figures.value if figures.finished else None})
        good = [one for one in tried if one["value"] is not None]
        if not good:
            return player
        best = (min if less else max)(good, key=lambda one: one["value"])
        chosen = player.with_settings(verb, best["settings"])
        self._results.choice(chosen, verb, judge, tried)
        return chosen


def _brief(judge: str, scale: Scale) -> Variant:
    match judge:
        case "drain":
            return Variant(jobs=max(scale.jobs // 4, 100))
        case "pick_up":
            return Variant(jobs=max(scale.pick_ups // 5, 5))
        case "many":
            return Variant(jobs=max(scale.bulk // 5, 1000))
        case "add":
            return Variant(jobs=max(scale.adds // 4, 20))
        case _:
            return Variant(jobs=max(scale.adds, 100), callers=50)
