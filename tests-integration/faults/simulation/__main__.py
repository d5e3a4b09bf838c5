"""Play schedules by hand: `python tests-integration/faults/simulation --seed 7` shows the schedule of seed 7."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).parents[1])  # the folder that holds the package

from simulation.machine import simulated_machine
from simulation.scenario import MODES
from simulation.schedule import play


def main() -> None:
    """Read the command line and play the schedules."""
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="seed of the (first) schedule")
    parser.add_argument("--mode", choices=MODES, help="mode of the schedules; default: chosen by the seed")
    parser.add_argument("--count", type=int, help="number of schedules to play; only violations are shown")
    options = parser.parse_args()
    with simulated_machine():
        if options.count is None:
            outcome = play(options.seed, mode=options.mode, verbose=True)
            print(outcome.scenario)
            print("\n".join(outcome.lines()))
            print(f"{len(outcome.violations)} violations, {outcome.runs} runs of {outcome.added} jobs")
            sys.exit(bool(outcome.violations))
        began = time.perf_counter()
        names: Counter[str] = Counter()
        steps = virtual = runs = 0.0
        for seed in range(options.seed, options.seed + options.count):
            outcome = play(seed, mode=options.mode)
            steps += outcome.steps
            virtual += outcome.seconds
            runs += outcome.runs
            for violation in outcome.violations[:1]:
                names[violation.name] += 1
                print(f"seed {seed} ({outcome.scenario.mode}): {violation.name}: {violation.text}"[:500], flush=True)
        took = time.perf_counter() - began
        print(f"{options.count} schedules, {options.count / took:.0f} a second; {steps / options.count:.0f} steps and")
        print(f"{virtual / options.count:.1f} virtual seconds and {runs / options.count:.1f} runs each; {dict(names)}")
        sys.exit(bool(names))


if __name__ == "__main__":
    main()
