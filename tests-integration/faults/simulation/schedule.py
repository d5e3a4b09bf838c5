"""One schedule: plays the scenario of a seed to its end and collects the violations."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
from wrong import Wrong

from jobq_core.memory import MemoryQueueStorage
from jobq_core.states import FINISHED, JobState

from .channel import Channel, SimulatedNotifier
from .journal import Journal, Violation
from .machine import machine_of
from .process import Process
from .programs import Quit, Stage, call, work
from .scenario import MODES, Blow, Scenario, draw_scenario
from .truth import Truth
from .verdict import judge
from .weather import Weather
from .world import Lane, Step, World

LONGEST = 300.0
"""Seconds of virtual time within which all jobs and processes must end once the faults have stopped."""
STEPS = 200_000
"""Most steps of one schedule; a schedule that loops exceeds it."""

StorageType = Callable[..., MemoryQueueStorage]


@attrs.frozen(kw_only=True)
class Outcome:
    """The result of one schedule."""

    seed: int
    scenario: Scenario
    violations: list[Violation]
    added: int
    runs: int
    leases: int
    lost_leases: int
    steps: int
    seconds: float
    recovery: float
    """The longest time between the last heartbeat of a lost worker and the rescue of a job, in virtual seconds."""
    trace: list[tuple[float, str, str, tuple[Any, ...]]] = attrs.field(repr=False)

    def lines(self) -> list[str]:
        """Return the trace, one line per event."""
        return [
            f"{when:9.4f}  {who:<10}  {what % details if details else what}" for when, who, what, details in self.trace
        ]


def play(
    seed: int, *, mode: str | None = None, storage_type: StorageType = MemoryQueueStorage, verbose: bool = False
) -> Outcome:
    """Play the schedule of a seed. Use within `simulated_machine`.

    mode: None lets the seed choose. verbose: write log messages into the trace too.
    """
    return Schedule(seed, mode or MODES[seed % len(MODES)], storage_type).play(verbose=verbose)


class Schedule:
    """The world, storage and processes of one schedule."""

    def __init__(self, seed: int, mode: str, storage_type: StorageType) -> None:
        self._seed = seed
        self.world = world = World(seed)
        world.shuffle = world.random.random() < 0.25
        self.scenario: Scenario = draw_scenario(world, mode)
        scenario = self.scenario
        self.journal = Journal(world)
        self.weather = Weather(world, rough=scenario.rough, limit=scenario.limit, calm_at=scenario.calm_at)
        self.weather.outages.extend(scenario.outages)
        self.storage = storage_type(clock=world.clock)
        self.truth = self.journal.truth = Truth(world, self.storage, self.journal)
        self.notifier = SimulatedNotifier(world, self.weather, self.truth.store)
        self.server = world.lane("server")
        self.stage = Stage(scenario, self.journal)
        self.processes: dict[str, Process] = {}
        self._quits: dict[Process, Quit] = {}
        self._over: set[Process] = set()
        self._ending = False

    def play(self, *, verbose: bool = False) -> Outcome:
        """Play the schedule and judge it."""
        with machine_of(self.world), _logging(self.world, verbose):
            try:
                self._play()
            finally:
                for process in self._quits:
                    if not process.dead:
                        process.bury()
        self.journal.violations += [Violation("unexpected error", text, self.world.now) for text in self.world.errors]
        judge(self.scenario, self.truth, self.journal, self._quits)
        return self._outcome()

    def _play(self) -> None:
        world, scenario = self.world, self.scenario
        self.truth.open()
        for number in range(scenario.clients):
            self._start_client(number)
        for number, plan in enumerate(scenario.workers):
            self._at(plan.start, self._start_worker, number)
        for blow in scenario.blows:
            self._at(blow.at, self._strike, blow)
        self._at(scenario.calm_at, self._enable)
        if not world.run(self._done, before=scenario.calm_at + LONGEST, steps=STEPS):
            self._stuck("jobs or callers have not ended")
            return
        world.note("world", "all jobs have ended; every process is asked to end")
        self._ending = True
        for process, ending in self._quits.items():
            self._at(world.now, ending.set, lane=process.loop.lane)
        if not world.run(self._quiet, before=world.now + LONGEST, steps=STEPS):
            self._stuck("a process does not end")

    def _at(self, when: float, call: Callable[..., object], *args: object, lane: Lane | None = None) -> None:
        self.world.at(when, lane or self.server, Step(call, *args))

    def _start_client(self, number: int) -> None:
        process = self._process(f"client-{number}")
        ending = self._quits[process] = Quit()
        process.start(call(process, self.stage, self._channel(process), number, ending), partial(self._ended, process))

    def _start_worker(self, number: int, life: int = 0) -> None:
        process = self._process(f"worker-{number}", life)
        ending = self._quits[process] = Quit()
        if self._ending:
            ending.set()
        plan = self.scenario.workers[number]
        process.start(work(process, self.stage, self._channel(process), plan, ending), partial(self._ended, process))

    def _process(self, name: str, life: int = 0) -> Process:
        """Make a process, or replace a killed one (life > 0). Its wall clock may be wrong."""
        skew = self.world.random.choice((0.0, 0.0, -7200.0, 7200.0))
        process = Process(self.world, f"{name}.{life}" if life else name, self.stage, skew=skew)
        self.processes[name] = process
        return process

    def _channel(self, process: Process) -> Channel:
        return Channel(process, self.truth, self.weather, self.notifier, self.server)

    def _ended(self, process: Process) -> None:
        self._over.add(process)

    def _strike(self, blow: Blow) -> None:
        process = self.processes.get(blow.victim)
        if process is None or process.dead or process.held_since is not None:
            return
        if blow.kind != "kill":
            process.hold(thread=blow.kind == "hold")
            self._at(self.world.now + blow.seconds, process.resume)
            return
        process.kill()
        self.notifier.subscriptions = [each for each in self.notifier.subscriptions if each.process is not process]
        if blow.victim.startswith("worker"):
            life = 1 + int(process.name.partition(".")[2] or 0)
            number = int(blow.victim.partition("-")[2])
            self._at(self.world.now + blow.seconds, self._start_worker, number, life)

    def _enable(self) -> None:
        """Enable every second, as an operator would, the disabled jobs that somebody last asked to disable, and no
        others: a job that is DISABLED against its last request must stay so, to be seen."""
        disabled = [
            job
            for job, row in self.truth.store.jobs.items()
            if row.state is JobState.DISABLED and self.truth.requests.last.get(job) == "disable"
        ]
        if disabled:
            self.truth.asking = "operator"
            self.truth.perform("enable", [disabled], {})
        self._at(self.world.now + 1.0, self._enable)

    def _done(self) -> bool:
        """Return whether every job has ended, every failure is followed and every caller has learned how."""
        if self.world.now < self.scenario.calm_at or self.truth.asked_under_way:
            return False
        for number in range(self.scenario.clients):
            process = self.processes[f"client-{number}"]
            if not process.dead and process.name not in self.stage.served:
                return False
        rows = self.truth.store.jobs.values()
        return all(row.state in FINISHED or row.queue.name == "failures" for row in rows) and not self.truth.store.ended

    def _quiet(self) -> bool:
        return all(process in self._over or process.dead for process in self._quits)

    def _stuck(self, why: str) -> None:
        jobs = [f"{row.job.id} {row.state} lease {row.lease}" for row in self.truth.store.jobs.values()]
        processes = [f"{process.name}{' dead' if process.dead else ''}" for process in self._quits]
        self.journal.violated(Wrong.STUCK, f"{why}; {self.world.steps} steps; jobs: {jobs}; processes: {processes}")

    def _outcome(self) -> Outcome:
        leases = self.truth.leases.values()
        lost = [lease for lease in leases if lease.ended_by == "rescue"]
        return Outcome(
            seed=self._seed,
            scenario=self.scenario,
            violations=self.journal.violations,
            added=sum(add.answer == "acknowledged" for add in self.journal.adds),
            runs=len(self.journal.runs),
            leases=len(leases),
            lost_leases=len(lost),
            steps=self.world.steps,
            seconds=self.world.now,
            recovery=max((lease.silent for lease in lost), default=0.0),
            trace=self.world.trace,
        )


class _LogHandler(logging.Handler):
    """Writes log messages of jobq into the trace, and logged exceptions into the world's errors."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if self._world.burying:
            return
        self._world.note("log", record.getMessage())
        if record.exc_info and record.exc_info[1] is not None:
            trace = "".join(traceback.format_exception(record.exc_info[1]))
            self._world.errors.append(f"{record.getMessage()}: {trace}")


@contextmanager
def _logging(world: World, verbose: bool) -> Generator[None, None, None]:
    logger = logging.getLogger("jobq")
    listener = _LogHandler(world)
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO if verbose else logging.ERROR)
    logger.propagate = False
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.setLevel(before[0])
        logger.propagate = before[1]
