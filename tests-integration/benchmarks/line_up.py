"""The contestants: jobq, jobq at other commits, the floors, and the rivals that can be installed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import environments
from players import ContestantError, Player
from results import Results

SCRIPTS = Path(__file__).parent / "contestants"
OURS = {"postgresql": "ours.py", "sqlite": "ours.py", "memory": "ours_memory.py"}
SYNC = {"postgresql": ["ours_sync.py"], "sqlite": ["ours_sync.py"], "memory": []}
"""jobq's client for threads."""
FLOORS = {
    "postgresql": ["floor_postgres.py", "floor_statements.py", "floor_insert.py"],
    "sqlite": ["floor_sqlite.py"],
    "memory": [],
}
RIVALS = sorted(script.stem.removeprefix("rival_") for script in SCRIPTS.glob("rival_*.py"))


def line_up(stores: Sequence[str], options: argparse.Namespace, results: Results) -> list[Player]:
    """Return the contestants on the first of these storages, and rivals on the others. Report those that fail."""
    storage = stores[0]
    python = Path(sys.executable) if options.here else environments.of_working_tree()
    ours = SCRIPTS / OURS[storage]
    players = [Player.meet(ours, python)]
    for revision in options.against:
        commit, old = environments.of_revision(revision)
        players.append(Player.meet(ours, old, name=f"jobq at {commit}"))
    players += [Player.meet(SCRIPTS / other, python) for other in SYNC[storage] + FLOORS[storage]]
    players += _rivals(stores, options.rivals, results)
    for player in players:
        results.player(player)
    return players


def _rivals(stores: Sequence[str], names: Sequence[str], results: Results) -> list[Player]:
    found: list[Player] = []
    for name in names:
        script = SCRIPTS / f"rival_{name}.py"
        try:
            rival = Player.meet(script, environments.of_script(script))
        except (environments.InstallError, ContestantError) as error:
            print(f"ABSENT: {script.stem}: {error}", file=sys.stderr)
            results.absent(script.stem, str(error)[-500:])
        else:
            if any(map(rival.plays_on, stores)):
                found.append(rival)
    return found
