"""An Autoscaler at work: what it looks at, what it changes, and what it says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from jobq_client import JobQueueClient
from jobq_core import ConfigurationError, WorkerInfo
from jobq_core.ids import new_id
from jobq_core.memory import MemoryQueueStorage
from jobq_core.testing import ManualClock
from jobq_server import Autoscaler, JobQueue, JobQueueServer
from jobq_server.autoscaling import Cause
from jobq_server.autoscaling.look import Backlog, BacklogReader
from jobq_server.autoscaling.scaling import Pool, Scaling
from jobq_worker.running.slots import Slots


class Bench:
    """A pool with a clock and a backlog that the test sets."""

    def __init__(self, options: Autoscaler, workers: int) -> None:
        self.clock = ManualClock(1000.0)
        self.slots = Slots(workers)
        self.backlog = Backlog(jobs=0, oldest=0.0)
        self.looks = 0
        self.scaling = Scaling(options, Pool("till", self.slots, self.slots.resize), self._look, self.clock)

    async def _look(self, now: float) -> Backlog:
        assert now == self.clock()
        self.looks += 1
        return self.backlog

    def fill(self) -> None:
        """Have all workers run a job."""
        self.slots.free.clear()

    def free(self) -> None:
        """Have no worker run a job."""
        self.slots.free[:] = self.slots._slots

    async def step(self, seconds: float = 1.0) -> int:
        """Let time pass and the Autoscaler act; return the number of workers."""
        self.clock.advance(seconds)
        await self.scaling.step()
        return len(self.slots)


async def test_it_changes_the_pool_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    made = Bench(Autoscaler(min=2, max=6), 4)
    made.fill()
    made.backlog = Backlog(jobs=50, oldest=7.0)
    with caplog.at_level("INFO"):
        assert await made.step() == 4  # for a moment: the server has just started
        assert await made.step(5) == 6
    assert caplog.messages == [
        "server till scaled from 4 to 6 workers (waiting): 50 jobs wait, the oldest for 7 s (target 5 s)"
    ]
    stats = made.scaling.stats
    assert (stats.workers, stats.cause, stats.changes) == (6, Cause.WAITING, 1)
    assert stats.reason == "50 jobs wait, the oldest for 7 s (target 5 s)"


async def test_it_warns_once_when_the_maximum_is_reached(caplog: pytest.LogCaptureFixture) -> None:
    made = Bench(Autoscaler(max=4), 4)
    made.fill()
    made.backlog = Backlog(jobs=50, oldest=7.0)
    for _ in range(3):
        await made.step(10)
    assert caplog.messages == [
        "server till cannot add workers: 50 jobs wait, the oldest for 7 s (target 5 s); 4 is the maximum"
    ]


async def test_it_asks_the_storage_only_while_the_workers_are_busy() -> None:
    made = Bench(Autoscaler(max=8), 4)
    for _ in range(20):
        await made.step()
    assert made.looks == 0
    made.fill()
    await made.step()
    assert made.looks == 1


async def test_a_change_of_cool_down_and_interval_counts() -> None:
    made = Bench(Autoscaler(max=8, cool_down=timedelta(seconds=10), interval=0.5), 8)
    assert await made.scaling.step() == 0.5
    assert [await made.step(3) for _ in range(8)] == [8, 8, 8, 4, 4, 4, 4, 2]


# What it looks at


async def test_it_counts_the_pending_jobs_of_its_queues(bench: Any) -> None:
    clock = ManualClock(1000.0)
    async with MemoryQueueStorage(clock=clock) as storage, JobQueueClient(storage) as client:
        await client.add_many([bench.quick(n=n) for n in range(3)])
        clock.advance(4)
        await client.add(bench.quick(n=3), queue="mail")
        await client.add(bench.quick(n=4), queue="other")
        await client.add(bench.quick(n=5), queue="mail", delay=60)
        clock.advance(3)
        reader = BacklogReader(lambda: storage, ["default", "mail"])
        assert await reader.look(0.0) == Backlog(jobs=4, oldest=7.0)


async def test_jobs_of_a_paused_queue_do_not_count(storage: MemoryQueueStorage, bench: Any) -> None:
    async with JobQueueClient(storage) as client:
        await client.add(bench.quick(n=1))
        await client.add_many([bench.quick(n=n) for n in range(5)], queue="mail")
        async with JobQueueClient(storage, "mail") as mail:
            await mail.pause()
            reader = BacklogReader(lambda: storage, ["default", "mail"])
            assert (await reader.look(0.0)).jobs == 1
            await mail.resume()
        assert (await reader.look(9.0)).jobs == 1
        assert (await reader.look(10.0)).jobs == 6


async def test_the_servers_of_a_queue_share_its_jobs(storage: MemoryQueueStorage, bench: Any) -> None:
    for queue in ("default", "default", "default", "mail"):
        await storage.register(
            WorkerInfo(
                id=new_id(), name="one", host="here", pid=7, queues=(queue,), kinds=(), concurrency=5, lost_after=30.0
            )
        )
    async with JobQueueClient(storage) as client:
        await client.add_many([bench.quick(n=n) for n in range(10)])
        await client.add_many([bench.quick(n=n) for n in range(10)], queue="mail")
    assert (await BacklogReader(lambda: storage, ["default"]).look(0.0)).jobs == 4  # the third server takes the rest
    assert (await BacklogReader(lambda: storage, ["default", "mail"]).look(0.0)).jobs == 14


# In a server

QUICK = Autoscaler(min=1, max=8, target_wait=0.001, interval=0.01, cool_down=0.05)


class Scaled(logging.Handler):
    """Waits for a server to have so many workers; it looks whenever one logs that it was scaled."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self._changed.set()

    async def __call__(self, server: JobQueueServer, workers: int) -> None:
        while server.worker_count != workers:
            self._changed.clear()
            await self._changed.wait()


@pytest.fixture
async def scaled(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Scaled]:
    logger, handler = logging.getLogger("jobq.worker"), Scaled()
    logger.addHandler(handler)
    with caplog.at_level("INFO"):
        yield handler
    logger.removeHandler(handler)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers that were added show at once what they achieve."""
    monkeypatch.setattr("jobq_server.autoscaling.decide.SETTLE_SECONDS", 0.0)


@pytest.mark.usefixtures("impatient")
async def test_a_server_grows_while_jobs_wait_and_shrinks_when_they_are_done(
    storage: MemoryQueueStorage, bench: Any, scaled: Scaled
) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs, worker_count=1, autoscale=QUICK)
    async with JobQueueClient(storage) as client, server:
        handles = await client.add_many([bench.held(n=n) for n in range(20)])
        await bench.until(lambda b: b.running == 8)
        bench.open()
        assert [await client.wait_for(handle, timeout=20) for handle in handles] == list(range(20))
        await scaled(server, 1)
        scaling = (await server.stats()).scaling
        assert scaling is not None
        assert (scaling.autoscaler, scaling.workers, scaling.cause) == (QUICK, 1, Cause.IDLE)
        assert scaling.changes >= 6
    assert bench.most_running == 8
    assert set(bench.runs.values()) == {1}


@pytest.mark.usefixtures("impatient")
async def test_a_failing_storage_does_not_end_the_scaling(
    storage: MemoryQueueStorage, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = asyncio.Event()

    async def fail(*_: Any) -> Any:
        failed.set()
        raise ConnectionError("gone")

    server = JobQueueServer(storage, jobs=bench.jobs, worker_count=1, autoscale=QUICK)
    async with JobQueueClient(storage) as client, server:
        with monkeypatch.context() as patched:
            patched.setattr(storage, "depths", fail)
            await client.add_many([bench.held(n=n) for n in range(8)])
            await failed.wait()
            assert server.worker_count == 1
        await bench.until(lambda b: b.running == 8)
        bench.open()


async def test_an_idle_server_with_an_autoscaler_asks_the_storage_nothing_more(
    counting_storage: Any, bench: Any, scaled: Scaled
) -> None:
    async with JobQueueServer(counting_storage, jobs=bench.jobs, worker_count=4, autoscale=QUICK) as server:
        await scaled(server, 1)
    assert not {"depths", "counts", "queues", "workers"} & set(counting_storage.calls)


async def test_a_stopped_server_is_scaled_again_after_its_next_start(
    storage: MemoryQueueStorage, bench: Any, scaled: Scaled
) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs, worker_count=8, autoscale=QUICK)
    async with server:
        await scaled(server, 4)
    assert server.worker_count <= 4
    async with server:
        await scaled(server, 1)


@pytest.mark.parametrize(("given", "starts_with"), [(1, 5), (7, 7), (20, 9)])
def test_it_starts_with_the_given_number_of_workers_within_the_bounds(given: int, starts_with: int) -> None:
    autoscaler = Autoscaler(min=5, max=9)
    server = JobQueueServer("memory://", jobs=[], worker_count=given, autoscale=autoscaler)
    assert server.worker_count == starts_with
    server.configure(worker_count=30)
    assert server.worker_count == 9
    server.configure(autoscale=Autoscaler(max=4))
    assert server.worker_count == 4


def test_a_server_with_an_autoscaler_is_not_scaled_by_hand() -> None:
    server = JobQueueServer("memory://", jobs=[], autoscale=Autoscaler(max=9))
    with pytest.raises(ConfigurationError, match="an Autoscaler scales this server, from 1 to 9 workers; make the"):
        server.scale(3)


async def test_a_queue_in_one_object_takes_an_autoscaler_too(bench: Any, scaled: Scaled) -> None:
    queue = JobQueue("mail", jobs=bench.jobs, worker_count=3, autoscale=QUICK)
    async with queue:
        await scaled(queue.server, 1)
        scaling = (await queue.stats()).scaling
    assert scaling is not None
    assert scaling.autoscaler == QUICK


async def test_without_an_autoscaler_the_statistics_have_none(storage: MemoryQueueStorage) -> None:
    assert (await JobQueueServer(storage, jobs=[]).stats()).scaling is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max": 0}, "max of an Autoscaler must be a whole number, 1 or more and at most 100000, not 0"),
        ({"max": 2.0}, "max of an Autoscaler must be a whole number"),
        ({"max": 100_001}, "max of an Autoscaler must be a whole number"),
        ({"max": 5, "min": 0}, "min of an Autoscaler must be a whole number, 1 or more"),
        ({"max": 5, "min": 6}, r"min of an Autoscaler \(6\) must be at most its max \(5\)"),
        ({"max": 5, "target_wait": 0}, "target_wait must be more than 0 seconds"),
        ({"max": 5, "target_wait": "5"}, "target_wait must be more than 0 seconds"),
        ({"max": 5, "interval": 0}, "interval must be more than 0 seconds"),
        ({"max": 5, "cool_down": -1}, "cool_down must be 0 seconds or more"),
        ({"max": 5, "max_processes": 0}, "max_processes must be a whole number, 1 or more and at most 1000, not 0"),
        ({"max": 5, "min_processes": 2}, r"min_processes of an Autoscaler \(2\) needs max_processes"),
        (
            {"max": 5, "min_processes": 4, "max_processes": 3},
            r"min_processes of an Autoscaler \(4\) must be at most its max_processes \(3\)",
        ),
    ],
)
def test_an_option_that_cannot_work_is_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Autoscaler(**options)


def test_a_job_queue_has_one_process() -> None:
    with pytest.raises(ConfigurationError, match="a JobQueue is one process; use a JobQueueServer for an Autoscaler"):
        JobQueue("mail", autoscale=Autoscaler(max=5, max_processes=2))


@pytest.mark.parametrize(
    "make",
    [lambda **more: JobQueueServer("memory://", jobs=[], **more), lambda **more: JobQueue("mail", **more)],
    ids=["server", "queue"],
)
def test_anything_but_an_autoscaler_is_refused(make: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"autoscale must be an Autoscaler, such as Autoscaler\(min=1, max=50\)"
    ):
        make(autoscale=50)
