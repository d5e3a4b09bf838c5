"""Breadth-first search through all states of a model: the first broken promise found has one of the shortest paths."""

from __future__ import annotations

from collections import deque

import attrs
from wrong import Wrong, WrongInside

from .model import MOST_LEASES, RESCUE, Job, Model, State, held, renamed

FINAL = frozenset({"completed", "failed", "aborted"})


@attrs.define(kw_only=True)
class Exploration:
    """The result of an exploration. wrong: the first broken promise or None; path: the steps that lead to it.

    cut: number of states at the bound on leases, whose steps were not followed."""

    states: int = 0
    steps: int = 0
    cut: int = 0
    depth: int = 0
    wrong: str | None = None
    path: list[str] = attrs.field(factory=list)


def explore(model: Model, initial: State, *, most: int = 10_000_000) -> Exploration:
    """Visit every reachable state, check each state and each step, and check that all jobs can end from each state.

    Raises MemoryError beyond `most` states: an incomplete exploration proves nothing.
    """
    found = Exploration()
    origin: dict[State, tuple[State, str] | None] = {initial: None}
    into: dict[State, list[State]] = {}
    ends: list[State] = []
    level = deque([initial])
    while level:
        found.depth += 1
        following: deque[State] = deque()
        for state in level:
            if all(job.state in FINAL or (job.state, job.word) == ("disabled", "disable") for job in state.jobs):
                ends.append(state)
            if any(job.lease > MOST_LEASES for job in state.jobs):
                found.cut += 1
                ends.append(state)
                continue
            for label, after in model.steps(state):
                found.steps += 1
                after = renamed(after)
                into.setdefault(after, []).append(state)
                new = after not in origin
                if new:
                    origin[after] = (state, label)
                    following.append(after)
                if (wrong := broken_by(state, after, label) or (broken_in(after) if new else None)) is not None:
                    found.wrong, found.states = wrong, len(origin)
                    found.path = [*path_to(state, origin), label]
                    return found
            if len(origin) > most:
                raise MemoryError(f"more than {most} states")
        level = following
    found.states = len(origin)
    if (stuck := dead_end(origin, into, ends)) is not None:
        found.wrong, found.path = Wrong.STUCK, [*path_to(stuck, origin), str(stuck)]
    return found


def broken_in(state: State) -> str | None:
    """Return the promise that is broken in a state, or None."""
    for number, worker in enumerate(state.workers):
        if worker.mode != "up" or not worker.sure:
            continue  # a resumed process stops its runs before it does anything else
        for run in worker.runs:
            if run.phase == "running" and not held(state, number, worker, run):
                return Wrong.AFTER_THE_END if state.jobs[run.job].state in FINAL else Wrong.DOUBLY_OWNED
    for job in state.jobs:
        if not 0 <= job.attempt <= job.most:
            return Wrong.TOO_MANY_ATTEMPTS
        if job.state == "completed" and not job.started >> job.lease & 1:
            return Wrong.WRONG_END
    return None


def broken_by(before: State, after: State, label: str) -> str | None:
    """Return the promise that a step breaks, or None."""
    for old, new in zip(before.jobs, after.jobs, strict=True):
        if old == new:
            continue
        if old.state in FINAL and (new.state, new.lease) != (old.state, old.lease):
            return Wrong.AFTER_THE_END
        if new.started != old.started and new.started.bit_count() > new.lease:
            return Wrong.UNEXPLAINED
        if new.started != old.started and not new.marked and (new.attempt > 1 or new.most == 1):
            return WrongInside.UNMARKED
        if old.state == "processing" != new.state and (wrong := broken_word(old, new)) is not None:
            return wrong
        if label == RESCUE and (wrong := broken_by_rescue(old, new)) is not None:
            return wrong
    for old_worker, new_worker in zip(before.workers, after.workers, strict=True):
        for run in new_worker.runs:
            if run.phase == "running" and run not in old_worker.runs and before.jobs[run.job].started >> run.lease & 1:
                return Wrong.LEASE_TWICE
    return None


def broken_word(old: Job, new: Job) -> str | None:
    """Return the promise that the end of a lease breaks, or None: the last request that was answered True holds."""
    if new.state == "completed":
        return None
    wanted = {"abort": ("aborted",), "disable": ("disabled",)}.get(old.word or "", ("pending", "failed"))
    return None if new.state in wanted else Wrong.LAST_WORD


def broken_by_rescue(old: Job, new: Job) -> str | None:
    """Return the promise that a rescue breaks, or None: an attempt counts if the job ran or its start was marked (a
    worker may die between the mark and the run)."""
    ran = old.started >> old.lease & 1
    if ran and new.attempt < old.attempt:
        return WrongInside.UNCOUNTED
    return Wrong.FAILED_UNRUN if new.state == "failed" and not (ran or old.marked) else None


def dead_end(
    origin: dict[State, tuple[State, str] | None], into: dict[State, list[State]], ends: list[State]
) -> State | None:
    """Return a state from which not all jobs can end, or None if there is no such state."""
    good = set(ends)
    todo = list(ends)
    while todo:
        for before in into.get(todo.pop(), ()):
            if before not in good:
                good.add(before)
                todo.append(before)
    return next((state for state in origin if state not in good), None)


def path_to(state: State, origin: dict[State, tuple[State, str] | None]) -> list[str]:
    """Return the steps by which a state was first reached."""
    path: list[str] = []
    while (came := origin[state]) is not None:
        state, label = came
        path.append(label)
    return path[::-1]
