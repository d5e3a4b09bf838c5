"""Play many schedules in several processes, and add up their results."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

import attrs

from .machine import simulated_machine
from .mutants import MUTANTS
from .schedule import Outcome, play

SHARE = 250
"""Number of schedules per task of a process."""


@attrs.define(kw_only=True)
class Sums:
    """Totals over many schedules. broken: seed, name and text of the first violation of each schedule that has one."""

    schedules: int = 0
    added: int = 0
    runs: int = 0
    lost_leases: int = 0
    steps: int = 0
    seconds: float = 0.0
    recovery: float = 0.0
    broken: list[tuple[int, str, str]] = attrs.field(factory=list)

    def count(self, outcome: Outcome) -> None:
        """Add the result of one schedule."""
        self.schedules += 1
        self.added += outcome.added
        self.runs += outcome.runs
        self.lost_leases += outcome.lost_leases
        self.steps += outcome.steps
        self.seconds += outcome.seconds
        self.recovery = max(self.recovery, outcome.recovery)
        for violation in outcome.violations[:1]:
            self.broken.append((outcome.seed, violation.name, violation.text))

    def __iadd__(self, other: Sums) -> Sums:
        for name in ("schedules", "added", "runs", "lost_leases", "steps", "seconds", "broken"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.recovery = max(self.recovery, other.recovery)
        return self


def play_share(seeds: Sequence[int], mode: str | None = None, mutant: str | None = None) -> Sums:
    """Play schedules one after the other, on the memory storage or a mutant of it."""
    sums = Sums()
    with simulated_machine(), MUTANTS[mutant]() as storage_type:
        for seed in seeds:
            sums.count(play(seed, mode=mode, storage_type=storage_type))
    return sums


def play_many(first: int, count: int, *, processes: int = 2) -> Iterator[Sums]:
    """Play the schedules of `count` seeds from `first` on, and yield the totals of each share."""
    shares = [range(start, min(start + SHARE, first + count)) for start in range(first, first + count, SHARE)]
    # Spawned, not forked: a fork would inherit the threads of earlier tests.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_find_modules, initargs=(sys.path,))
    try:
        yield from pool.map(play_share, shares)
    finally:
        pool.shutdown(cancel_futures=True)


def _find_modules(path: list[str]) -> None:
    sys.path[:] = path
