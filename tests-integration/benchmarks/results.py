"""The results file: self-contained JSON lines, written as the measurements end."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
from figures import Figures
from plan import Scenario, Variant
from players import Player

ROOT = Path(__file__).parents[2]


def conditions(scale: str, storage_facts: dict[str, Any]) -> dict[str, Any]:
    """Return the conditions of a run: date, scale, revision, machine and storages."""
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "scale": scale,
        "revision": revision.stdout.strip() or None,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "storages": storage_facts,
    }


class Results:
    """Appends to a file."""

    def __init__(self, path: Path, run: dict[str, Any]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        self._write({"line": "conditions", **run})

    def _write(self, line: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def player(self, player: Player) -> None:
        """Write a contestant with its versions."""
        about = {name: player.about[name] for name in ("python", "versions", "storages", "caveats")}
        self._write({"line": "contestant", "contestant": player.name, **about})

    def choice(self, player: Player, verb: str, judge: str, tried: list[dict[str, Any]]) -> None:
        """Write the tried settings, the kind of measurement, and the chosen settings."""
        chosen = {"verb": verb, "judge": judge, "chosen": player.settings.get(verb, {}), "tried": tried}
        self._write({"line": "choice", "contestant": player.name, **chosen})

    def absent(self, name: str, reason: str) -> None:
        """Write a contestant that could not take part."""
        self._write({"line": "absent", "contestant": name, "reason": reason})

    def round(
        self, scenario: Scenario, variant: Variant, player: Player, storage: str, number: int, figures: Figures
    ) -> None:
        """Write the figures of one round."""
        head = _head("round", scenario, variant, player, storage)
        options = {
            name: value
            for name, value in attrs.asdict(variant).items()
            if value not in ("", 0, False, None, {}) and name not in ("name", "x")
        }
        versions = player.about["versions"]
        settings = player.settings
        extra = {"round": number, "options": options, "settings": settings, "versions": versions}
        self._write({**head, **extra, **figures.as_json()})

    def summary(
        self, scenario: Scenario, variant: Variant, player: Player, storage: str, summary: dict[str, Any]
    ) -> None:
        """Write the summary of the rounds."""
        self._write({**_head("summary", scenario, variant, player, storage), "less": scenario.less, **summary})


def _head(line: str, scenario: Scenario, variant: Variant, player: Player, storage: str) -> dict[str, Any]:
    head = {
        "line": line,
        "scenario": scenario.name,
        "title": scenario.title,
        "unit": scenario.unit,
        "variant": variant.name,
        "contestant": player.name,
        "storage": storage,
    }
    return head if variant.x is None else {**head, "x": variant.x}


def keep(path: Path, folder: Path) -> None:
    """Copy a results file into a folder, without its single rounds: the tables are made from the summaries."""
    kept = [line for line in path.read_text().splitlines() if json.loads(line)["line"] != "round"]
    (folder / path.name).write_text("\n".join(kept) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a results file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
