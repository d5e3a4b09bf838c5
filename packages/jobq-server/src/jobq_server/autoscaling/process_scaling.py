"""`ProcessScaling`: changes the number of a server's processes, by what they report on their load.

It runs where the supervisor runs, which needs no storage for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from jobq_server.autoscaling.decide import NOT_WAITING, Cause, Decision, Load, State, decide
from jobq_server.autoscaling.options import Autoscaler
from jobq_server.autoscaling.process_load import ProcessLoad, load_of_all
from jobq_server.autoscaling.scaling import ScalingStats, log_change
from jobq_worker.processes.supervised import Child
from jobq_worker.processes.supervisor import Supervisor


class ProcessScaling:
    """Scales the children of a supervisor by an Autoscaler. name: of the server."""

    def __init__(
        self,
        options: Autoscaler,
        supervisor: Supervisor,
        name: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._bounds = options.of_processes()
        self._supervisor = supervisor
        self._name = name
        self._clock = clock
        self._due_at = clock() + options.interval
        self._loads: dict[int, ProcessLoad] = {}
        self._ended = 0
        self._changes = 0
        state = State(workers=len(supervisor.children), changed_at=clock(), noun="processes")
        self._last = Decision(cause=Cause.STEADY, reason=NOT_WAITING, state=state)

    @property
    def stats(self) -> ScalingStats:
        """What it does. May be called from any thread."""
        return ScalingStats(
            autoscaler=self._options,
            workers=sum(load["workers"] for load in self._supervisor.loads().values()),
            processes=self._last.workers,
            cause=self._last.cause,
            reason=self._last.reason,
            changes=self._changes,
        )

    def step(self) -> None:
        """Decide and act, if it is time; called after each step of the supervisor."""
        now = self._clock()
        if now < self._due_at or self._supervisor.stopping:
            return
        self._due_at = now + self._options.interval
        before, self._last = self._last, decide(self._bounds, self._last.state, self._load(now))
        if self._last.workers != before.workers:
            self._changes += 1
            self._resize(self._last.workers)
        log_change(self._name, before, self._last)

    def _load(self, now: float) -> Load:
        before, self._loads = self._loads, {pid: ProcessLoad(**load) for pid, load in self._supervisor.loads().items()}
        for pid, load in self._loads.items():
            self._ended += load.ended - (before[pid].ended if pid in before else 0)
        return load_of_all(now, self._loads.values(), max_workers=self._options.max, ended=self._ended)

    def _resize(self, count: int) -> None:
        children = self._supervisor.children
        if count > len(children):
            self._supervisor.add(count - len(children))
        # The first child stays: it serves the web.
        for child in sorted(children[1:], key=self._busy)[: max(len(children) - count, 0)]:
            self._supervisor.retire(child.number)

    def _busy(self, child: Child) -> tuple[float, int]:
        """Return a key that sorts children by how busy they are, of several the last one first."""
        load = self._loads.get(child.process.pid) if child.process is not None else None
        return (0.0 if load is None else load.busy_share(self._options.max)), -child.number
