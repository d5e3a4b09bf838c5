"""How the number of a server's processes is scaled, by what they report; with made-up processes and a clock."""

from __future__ import annotations

import json
import signal
from typing import Any

import attrs
import pytest

from jobq_core.testing import ManualClock
from jobq_server import Autoscaler
from jobq_server.autoscaling import Cause
from jobq_server.autoscaling.decide import Load
from jobq_server.autoscaling.look import Backlog
from jobq_server.autoscaling.process_load import ProcessLoad, load_of_all
from jobq_server.autoscaling.process_scaling import ProcessScaling
from jobq_server.autoscaling.scaling import Pool, Scaling
from jobq_worker.processes.supervised import LOAD, READY
from jobq_worker.processes.supervisor import Supervisor
from jobq_worker.running.slots import Slots

OPTIONS = Autoscaler(max=10, max_processes=4)


class FakeProcess:
    """A process that serves, reports what it is told to, and ends when it is signalled."""

    def __init__(self, number: int) -> None:
        self.pid = 100 + number
        self.code: int | None = None
        self.sent = [f"{READY} 30 30"]
        self.load = ProcessLoad(workers=1, busy=0, ended=0, waiting=0, oldest=0.0, processor=0.0)

    def read(self) -> list[str]:
        sent, self.sent = [*self.sent, f"{LOAD} {json.dumps(attrs.asdict(self.load))}"], []
        return sent

    def poll(self) -> int | None:
        return self.code

    def send_signal(self, number: int) -> None:
        assert number == signal.SIGTERM
        self.code = 0


class Stage:
    """A supervisor with one process, and its scaling."""

    def __init__(self, options: Autoscaler = OPTIONS) -> None:
        self.clock = ManualClock(1000.0)
        self.started: dict[int, FakeProcess] = {}
        self.supervisor = Supervisor(self._start, 1, lost_after=30, stop_timeout=30, clock=self.clock)
        self.scaling = ProcessScaling(options, self.supervisor, "till", self.clock)
        self.supervisor.step()

    def _start(self, number: int) -> FakeProcess:
        self.started[number] = FakeProcess(number)
        return self.started[number]

    def step(self, seconds: int = 1, **load: Any) -> int:
        """Let time pass in steps of a second, in which each process has this load; return the number of processes.

        ended: how many jobs end in it in a second.
        """
        ended = load.pop("ended", 0)
        for _ in range(seconds):
            self.clock.advance(1.0)
            for process in self.started.values():
                process.load = attrs.evolve(process.load, ended=process.load.ended + ended, **load)
            self.supervisor.step()
            self.scaling.step()
        return len(self.supervisor.children)

    def grow(self, count: int) -> None:
        """Have jobs wait for the processor until there are so many processes."""
        for _ in range(60):
            if self.step(busy=1, processor=1.0, waiting=900, oldest=60.0, ended=9) == count:
                return
        pytest.fail(f"there are {len(self.supervisor.children)} processes")


def test_a_process_is_added_while_the_processor_is_busy_and_jobs_wait(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    with caplog.at_level("INFO"):
        while stage.step(busy=1, processor=0.97, waiting=90, oldest=4.0, ended=9) == 1:
            pass
    assert caplog.messages[-1] == (
        "server till scaled from 1 to 2 processes (waiting): 90 jobs wait, the oldest for 4 s; "
        "at the present rate the last one starts in 10 s (target 5 s)"
    )
    stats = stage.scaling.stats
    assert (stats.processes, stats.workers, stats.cause, stats.changes) == (2, 1, Cause.WAITING, 1)


def test_no_process_is_added_while_processes_wait_and_can_have_more_workers() -> None:
    stage = Stage()
    assert stage.step(100, busy=6, processor=0.1, waiting=900, oldest=60.0, ended=9) == 1
    assert stage.step(20, busy=10, processor=0.1, waiting=900, oldest=60.0, ended=9) > 1


def test_processes_that_were_not_needed_during_the_cool_down_are_removed_one_half_at_a_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage(Autoscaler(max=10, max_processes=4, min_processes=1, cool_down=60))
    stage.grow(4)
    assert stage.step(59, busy=0, processor=0.0, waiting=0) == 4
    with caplog.at_level("INFO"):
        assert stage.step(2) == 2
        assert stage.step(60) == 1
    assert "scaled from 2 to 1 processes (idle): at most 0 of 2 processes were busy in 60 s" in caplog.text


def test_the_least_busy_process_is_removed_and_never_the_first() -> None:
    stage = Stage()
    stage.grow(4)
    stage.step(1, busy=0, processor=0.0, waiting=0)
    for number, busy in ((1, 0), (2, 3), (3, 1), (4, 2)):
        stage.started[number].load = attrs.evolve(stage.started[number].load, busy=busy)
    for _ in range(61):
        stage.clock.advance(1.0)
        stage.supervisor.step()
        stage.scaling.step()
    assert [child.number for child in stage.supervisor.children] == [1, 2]


def test_processes_that_do_not_make_more_jobs_end_are_removed_again() -> None:
    """As on a machine that has one processor free."""
    stage = Stage()
    numbers, causes = [], []
    for _ in range(100):
        ended = 12 // len(stage.supervisor.processes())
        numbers.append(stage.step(busy=1, processor=1.0, waiting=900, oldest=60.0, ended=ended))
        causes.append(stage.scaling.stats.cause)
    assert {Cause.NO_GAIN, Cause.HELD} <= set(causes)
    assert max(numbers) > numbers[-1] == 1


def test_a_supervisor_that_stops_is_not_scaled() -> None:
    stage = Stage()
    stage.supervisor.stop("SIGTERM")
    assert stage.step(20, busy=1, processor=1.0, waiting=900, oldest=60.0, ended=9) == 1


@pytest.mark.parametrize(
    ("busy", "processor", "share"), [(2, 0.1, 0.2), (2, 0.9, 0.9), (10, 0.1, 1.0), (12, 0.1, 1.0), (1, 3.5, 1.0)]
)
def test_a_process_is_as_busy_as_its_processor_or_its_workers(busy: int, processor: float, share: float) -> None:
    load = ProcessLoad(workers=3, busy=busy, ended=7, waiting=40, oldest=2.0, processor=processor)
    assert load.busy_share(10) == share
    both = load_of_all(5.0, [load, attrs.evolve(load, oldest=3.0)], max_workers=10, ended=9)
    assert both == Load(at=5.0, busy=2 * share, ended=9, waiting=80, oldest=3.0)


# In a process


def in_process(workers: int, processor: float) -> tuple[Scaling, Slots, list[Any], ManualClock]:
    """Return the scaling of a process, its slots, what it reports, and its clock."""
    clock, slots, reported = ManualClock(1000.0), Slots(workers), list[Any]()

    async def look(_: float) -> Backlog:
        return Backlog(jobs=50, oldest=7.0)

    options = OPTIONS.in_process(reported.append)
    pool = Pool("till-2", slots, slots.resize)
    return Scaling(options, pool, look, clock, lambda: processor), slots, reported, clock


@pytest.mark.parametrize(("processor", "workers", "cause"), [(0.95, 2, Cause.PROCESSOR), (0.2, 4, Cause.WAITING)])
async def test_a_process_gets_more_workers_only_while_its_processor_is_not_busy(
    processor: float, workers: int, cause: Cause
) -> None:
    scaling, slots, _, clock = in_process(2, processor)
    slots.free.clear()
    seen = []
    for _ in range(2):
        clock.advance(6)
        await scaling.step()
        seen.append(scaling.stats.cause)
    assert (len(slots), cause in seen) == (workers, True)
    if cause is Cause.PROCESSOR:
        assert scaling.stats.reason.endswith(
            "; the process needs 95% of a processor: more processes help, not more workers"
        )


async def test_a_process_reports_its_load_at_each_look() -> None:
    scaling, slots, reported, clock = in_process(2, 0.25)
    await scaling.step()
    slots.free.clear()
    clock.advance(1)
    await scaling.step()
    idle = {"workers": 2, "busy": 0, "ended": 0, "waiting": 0, "oldest": 0.0, "processor": 0.25}
    assert reported == [idle, {**idle, "busy": 2, "waiting": 50, "oldest": 7.0}]


async def test_a_busy_processor_makes_it_look_even_where_workers_are_free() -> None:
    """Short jobs: the workers are free between two jobs, and the processor is not."""
    scaling, _, reported, _ = in_process(4, 0.9)
    await scaling.step()
    assert reported[0]["waiting"] == 50


async def test_a_storage_that_fails_leaves_a_report_without_a_backlog() -> None:
    reported: list[Any] = []
    slots = Slots(2)
    slots.free.clear()

    async def fail(_: float) -> Backlog:
        raise ConnectionError("gone")

    pool = Pool("till-2", slots, slots.resize)
    scaling = Scaling(OPTIONS.in_process(reported.append), pool, fail, ManualClock(0.0), lambda: 1.0)
    with pytest.raises(ConnectionError):
        await scaling.step()
    assert [report["waiting"] for report in reported] == [0]


def test_without_max_processes_a_process_has_the_same_autoscaler() -> None:
    options = Autoscaler(max=7)
    assert options.in_process(lambda _: None) is options
