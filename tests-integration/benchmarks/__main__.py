"""Measure jobq, its floors and its rivals, in rounds that take turns.

python tests-integration/benchmarks [SCENARIO …] [--scale quick] [--rivals] [--against REV] [--out DIR]
"""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import environments
from adding import adding
from crowding import crowd
from drain import drain
from idling import idle
from line_up import RIVALS, line_up
from pages import read_pages
from picking_up import pick_up
from pinning import pinned
from plan import EVERYWHERE, SCALES, plan
from redis_store import RedisStore
from results import Results, conditions
from retiring import retire
from rounds import play
from spread import spread
from starting import start
from stores import MemoryStore, PostgresStore, SqliteStore, Store
from targets import Targets
from together import together
from tuning import Tuning

MEASURES = {
    "drain": drain,
    "add": adding("add"),
    "group": adding("group"),
    "many": adding("many"),
    "ask": adding("ask"),
    "pick_up": pick_up,
    "idle": idle,
    "start": start,
    "together": together,
    "pinned": pinned,
    "spread": spread,
    "retire": retire,
    "crowd": crowd,
    "read_pages": read_pages,
}


def main() -> None:
    """Read the command line and measure."""
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all started processes are stopped at exit
    scale = SCALES[options.scale]
    rounds = options.rounds or scale.rounds
    scenarios = [scenario for scenario in plan(scale) if not options.scenarios or scenario.name in options.scenarios]
    for kind in options.storage or EVERYWHERE:
        with ExitStack() as stack:
            stores: dict[str, Store] = {kind: stack.enter_context(_store(kind, options.postgres))}
            if options.rivals and kind == "postgresql" and RedisStore.available():
                stores["redis"] = stack.enter_context(RedisStore())
            facts = {name: store.facts() for name, store in stores.items()}
            began = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
            results = Results(options.out / f"{kind}-{began}.jsonl", conditions(options.scale, facts))
            players = line_up(list(stores), options, results)
            targets = Targets(stores, scale)
            tuning = Tuning(MEASURES, targets, results)
            shown: set[tuple[str, str]] = set()
            for scenario in scenarios:
                if kind in scenario.storages:
                    able = [player for player in players if player.enters(scenario.needs, scenario.ours_only)]
                    if options.verbs_once:
                        able = [
                            p for p in able if p.is_ours or not shown.issuperset((p.name, v) for v in scenario.needs)
                        ]
                        shown.update((player.name, verb) for player in able for verb in scenario.needs)
                    able = [tuning.best(player, scenario) for player in able]
                    play(scenario, able, MEASURES[scenario.measure], targets, rounds, results)
        print(results.path)


def _store(kind: str, postgres: str | None) -> Store:
    match kind:
        case "postgresql":
            return PostgresStore(postgres)
        case "sqlite":
            return SqliteStore()
        case _:
            return MemoryStore()


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.splitlines()[0] if __doc__ else None)
    names = [scenario.name for scenario in plan(SCALES["full"])]
    parser.add_argument("scenarios", nargs="*", choices=[*names, []], metavar="SCENARIO", help=", ".join(names))
    parser.add_argument("--storage", action="append", choices=EVERYWHERE, help="default: each in turn")
    parser.add_argument("--postgres", metavar="machine|wheel|DSN", help="the server to use (default: an available one)")
    parser.add_argument("--rounds", type=int, help="default: the scale's number")
    parser.add_argument("--scale", choices=list(SCALES), default="quick")
    parser.add_argument("--rivals", action="store_const", const=RIVALS, default=[], help="measure all rivals too")
    parser.add_argument("--rival", dest="rivals", action="append", choices=RIVALS, help="measure this rival too")
    parser.add_argument(
        "--against", metavar="REV", action="append", default=[], help="measure the jobq of this commit too"
    )
    parser.add_argument(
        "--here", action="store_true", help="run jobq as installed in the runner's environment, not from wheels"
    )
    parser.add_argument(
        "--verbs-once", action="store_true", help="let others than jobq only take part where they show another verb"
    )
    parser.add_argument("--out", type=Path, default=environments.cache() / "results", help="default: %(default)s")
    return parser.parse_args()


if __name__ == "__main__":
    main()
