"""Results files read back: for each storage and scenario, the outcome of its latest run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import results
from plan import SCALES, plan

FLOORS = ("floor", "floor, jobq's SQL", "plain insert")
STORAGES = {"postgresql": "PostgreSQL", "sqlite": "SQLite", "memory": "Memory"}


@attrs.define
class Run:
    """One run: its conditions, the contestants that took part, and those that could not."""

    storage: str
    conditions: dict[str, Any]
    contestants: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    choices: list[dict[str, Any]] = attrs.field(factory=list)
    absent: dict[str, str] = attrs.field(factory=dict)


@attrs.define
class Outcome:
    """One scenario of one run: a summary per contestant and variant, and the rounds behind it."""

    run: Run
    name: str
    title: str
    unit: str
    summaries: list[dict[str, Any]] = attrs.field(factory=list)
    rounds: list[dict[str, Any]] = attrs.field(factory=list)

    @property
    def variants(self) -> list[str]:
        """Return the variants in their order."""
        return list(dict.fromkeys(line["variant"] for line in self.summaries))

    @property
    def contestants(self) -> list[str]:
        """Return the contestants in their order."""
        return list(dict.fromkeys(line["contestant"] for line in self.summaries))

    @property
    def rivals(self) -> list[str]:
        """Return the contestants that are other job queues."""
        return [name for name in self.contestants if name not in FLOORS and not re.match(r"jobq($| at )", name)]

    @property
    def stem(self) -> str:
        """Return the name of the outcome's picture, without its suffix."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.run.storage} {self.name}".lower())

    def of(self, contestant: str, variant: str) -> dict[str, Any] | None:
        """Return one summary."""
        wanted = (contestant, variant)
        return next((line for line in self.summaries if (line["contestant"], line["variant"]) == wanted), None)

    def series(self, contestant: str, variant: str) -> list[dict[str, float]]:
        """Return what the first round measured over time."""
        wanted = (contestant, variant)
        found = (line for line in self.rounds if (line["contestant"], line["variant"]) == wanted)
        return next((line["more"]["series"] for line in found if "series" in line.get("more", {})), [])


def read(paths: Iterable[Path]) -> list[Outcome]:
    """Return the scenarios that have summaries, in their order, each of its latest run on each version of a storage."""
    files = [results.read(path) for path in paths]
    latest: dict[tuple[str, str], Outcome] = {}
    for lines in sorted((lines for lines in files if lines), key=lambda lines: str(lines[0]["date"])):
        run = Run(_storage(lines[0]), lines[0])
        outcomes: dict[str, Outcome] = {}
        for line in lines[1:]:
            match line["line"]:
                case "contestant":
                    run.contestants[line["contestant"]] = line
                case "choice":
                    run.choices.append(line)
                case "absent":
                    run.absent[line["contestant"]] = line["reason"]
                case kind:
                    name = line["scenario"]
                    outcome = outcomes.setdefault(name, Outcome(run, name, line["title"], line["unit"]))
                    (outcome.rounds if kind == "round" else outcome.summaries).append(line)
        latest |= {(run.storage, name): outcome for name, outcome in outcomes.items() if outcome.summaries}
    order = {scenario.name: number for number, scenario in enumerate(plan(SCALES["full"]))}
    return sorted(latest.values(), key=lambda outcome: order.get(outcome.name, len(order)))


def _storage(conditions: dict[str, Any]) -> str:
    kind, facts = next(iter(conditions["storages"].items()))
    name = STORAGES[kind]
    version = str(facts.get(name, "")).split(" ")[0]
    return f"{name} {version}".strip()
