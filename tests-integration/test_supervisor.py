"""`jobq worker --processes` with real processes."""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
from pathlib import Path
from typing import Any

import pytest
from shop_jobs import add_up, at_gate, block, compute, say_pid
from watching import Gate, Log

from jobq_client import JobHandle, JobQueueClient
from jobq_core import ConfigurationError, JobState, open_storage
from jobq_core.records import WorkerRecord
from jobq_server import Autoscaler, JobQueueServer


async def workers(url: str) -> dict[str, WorkerRecord]:
    """Return the registered workers, by name."""
    async with open_storage(url) as storage:
        return {record.info.name: record for record in await storage.workers()}


@pytest.fixture
async def shop_url(sqlite_url: str) -> str:
    """The URL of an SQLite file with all tables, for what is the same on each storage."""
    storage = open_storage(sqlite_url)
    await storage.migrate()
    await storage.close()
    return sqlite_url


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def wait_until_ended(processes: list[int]) -> None:
    """Wait until these processes, given by their pidfds, have ended."""
    for descriptor in processes:
        assert select.select([descriptor], [], [], 60)[0], "a process goes on"
        os.close(descriptor)


async def test_children_are_named_restarted_and_finish_their_jobs_at_the_stop(
    migrated_url: str, children: Any, tmp_path: Path, log: Log, gate: Gate
) -> None:
    (tmp_path / "made.py").write_text(
        "import shop_jobs\nfrom jobq_worker import JobQueueWorker\n"
        "worker = JobQueueWorker(jobs=shop_jobs, name='shop', concurrency=3)\n"
    )
    serving = children.jobq(
        "worker", "made:worker", "--processes", "2", "--log-format", "json", JOBQ_STORAGE=migrated_url
    )
    for number in (1, 2):
        serving.wait_for_line(f'worker shop-{number} .* started: 3 at a time.*"process": "shop-{number}"')
    pids = {name: record.info.pid for name, record in (await workers(migrated_url)).items()}
    assert sorted(pids) == ["shop-1", "shop-2"]
    assert len({*pids.values(), serving.process.pid}) == 3
    os.kill(pids["shop-2"], signal.SIGKILL)
    serving.wait_for_line(rf"process 2 \(pid {pids['shop-2']}\) ended with SIGKILL; it is restarted in 0.5 s")
    serving.wait_for_line(r"worker shop-2 \(.*\) started", nth=2)
    async with JobQueueClient(migrated_url) as client:
        assert await (await client.add(add_up(2, 3))).result(timeout=60) == 5
        handles = [await client.add(at_gate(gate=str(gate), log=str(log), name=f"job {n}")) for n in range(3)]
        await log.has(*[f"started job {n}" for n in range(3)])
        serving.terminate()
        serving.wait_for_line(r"worker shop-\d \(.*\) is draining: it claims no more jobs and waits")
        gate.open()
        assert [await handle.result(timeout=60) for handle in handles] == ["job 0", "job 1", "job 2"]
    assert serving.wait() == 0
    assert len(re.findall(r"stopped: \d completed", serving.output)) == 2


async def test_no_child_is_left_when_the_supervisor_is_killed(migrated_url: str, children: Any) -> None:
    serving = children.jobq("server", "shop_jobs", "--processes", "2", "--name", "shop", "--storage", migrated_url)
    for number in (1, 2):
        serving.wait_for_line(f"worker shop-{number} .* started")
    running = [os.pidfd_open(record.info.pid) for record in (await workers(migrated_url)).values()]
    assert len(running) == 2
    os.kill(serving.process.pid, signal.SIGKILL)
    wait_until_ended(running)
    assert await workers(migrated_url) == {}, "the children have stopped in order"
    assert serving.output.count("the supervisor of this process is gone") == 2


async def test_a_child_whose_event_loop_is_blocked_is_replaced(
    shop_url: str, children: Any, log: Log, gate: Gate
) -> None:
    serving = children.jobq(
        *("worker", "shop_jobs", "--processes", "1", "--name", "shop", "--storage", shop_url),
        *("--lost-after", "2", "--heartbeat-interval", "0.5"),
    )
    serving.wait_for_line(r"worker shop-1 \(.*\) started")
    async with JobQueueClient(shop_url) as client:
        handle = await client.add(block(gate=str(gate), log=str(log)))
        # Usually with code 4; a process that takes long to write its stack to the log is killed.
        ending = r"process 1 \(pid (\d+)\) ended with (code 4|SIGKILL); it is restarted in 0.5 s"
        pid = serving.wait_for_line(ending)[1]
        assert f"process 1 (pid {pid}) is stuck: its event loop has been blocked for" in serving.output
        serving.wait_for_line(r"worker shop-1 \(.*\) started", nth=2)
        await handle.result(timeout=60)
    assert log.lines[:2] == ["started block 1", "started block 2"]
    assert "in block" in serving.output, "the log has the stack"
    serving.terminate()
    assert serving.wait() == 0


def test_a_server_that_has_processes_is_refused_in_one(shop_url: str, children: Any, tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text(
        "import shop_jobs\nfrom jobq_server import JobQueueServer\n"
        f"server = JobQueueServer({shop_url!r}, jobs=shop_jobs, processes=2)\n"
    )
    serving = children.jobq("worker", "made:server", "--processes", "2")
    assert serving.wait() == 2
    assert serving.output.count("made:server is made with processes=…, so it supervises worker processes itself") == 1


def test_an_error_at_the_start_is_reported_once(shop_url: str, children: Any) -> None:
    serving = children.jobq("worker", "no_such_module", "--processes", "3", "--storage", shop_url)
    assert serving.wait() == 1
    assert serving.output.count("there is no module 'no_such_module'") == 1


def test_a_memory_is_not_shared(children: Any) -> None:
    serving = children.jobq("worker", "shop_jobs", "--processes", "2", "--storage", "memory://")
    assert serving.wait() == 2
    assert "memory:// is the memory of one process and cannot be shared" in serving.output


async def test_reload_runs_the_new_source(shop_url: str, children: Any, tmp_path: Path) -> None:
    source = tmp_path / "live_jobs.py"
    source.write_text("from jobq_core import job\n@job()\nasync def first() -> None: ...\n")
    serving = children.jobq("worker", "live_jobs", "--reload", "--storage", shop_url)
    serving.wait_for_line("found 1 job in live_jobs: first")
    serving.wait_for_line("started: 10 at a time")
    source.write_text("def (\n")
    serving.wait_for_line("the source has changed")
    serving.wait_for_line("ended with code 1; it is restarted when the source changes")
    source.write_text("from jobq_core import job\n@job()\nasync def second_job() -> None: ...\n")
    serving.wait_for_line("found 1 job in live_jobs: second_job")
    serving.terminate()
    assert serving.wait() == 0


async def test_a_burst_of_several_processes_ends_when_the_queue_is_empty(shop_url: str, children: Any) -> None:
    async with JobQueueClient(shop_url) as client:
        handles = await client.add_many([add_up(n, n) for n in range(200)])
        serving = children.jobq(
            "worker", "shop_jobs", "--processes", "2", "--burst", "--poll-interval", "0.05", "--storage", shop_url
        )
        assert serving.wait() == 0
        assert len([await handle.result(timeout=1) for handle in handles]) == 200


async def test_a_server_with_processes_runs_jobs_in_them_and_counts_what_they_did(shop_url: str) -> None:
    server = JobQueueServer(
        shop_url, jobs=[say_pid, add_up], processes=2, worker_count=3, name="shop", heartbeat_interval=0.05
    )
    with pytest.raises(ConfigurationError, match="a server with processes cannot be scaled"):
        server.scale(5)
    async with server, JobQueueClient(shop_url) as client:
        assert server.health().healthy
        records = {record.info.name: record.info for record in (await server.stats()).workers}
        assert sorted(records) == ["shop-1", "shop-2"]
        assert {(info.kinds, info.concurrency) for info in records.values()} == {(("add_up", "say_pid"), 3)}
        handles = await client.add_many([add_up(n, n) for n in range(20)])
        assert sum([await handle.result(timeout=60) for handle in handles]) == 380
        while (await server.stats()).pool.total.completed < 20:  # noqa: ASYNC110  (heartbeats of other processes)
            await asyncio.sleep(0.01)
        assert (await server.stats()).total.completed == 20
    assert server.health().state == "stopped"
    assert await workers(shop_url) == {}


async def test_a_process_of_a_server_scales_its_own_workers(shop_url: str) -> None:
    server = JobQueueServer(shop_url, jobs=[add_up], processes=1, worker_count=10, autoscale=Autoscaler(max=3))
    async with server:
        stats = await server.stats()
    assert [record.info.concurrency for record in stats.workers] == [3]
    assert stats.scaling is None


async def test_a_burst_of_jobs_that_compute_gets_a_second_process_and_loses_it_again(
    shop_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    scaler = Autoscaler(max=1, max_processes=2, target_wait=0.1, interval=0.05, cool_down=0.3)
    server = JobQueueServer(shop_url, jobs=[compute], autoscale=scaler, name="shop", heartbeat_interval=0.05)
    with caplog.at_level("INFO"):
        async with server, JobQueueClient(shop_url) as client:
            assert sorted(record.info.name for record in (await server.stats()).workers) == ["shop-1"]
            handles: list[JobHandle[None]] = []
            while len((await server.stats()).workers) < 2:
                if (await client.counts())[JobState.PENDING] < 25:
                    handles += await client.add_many([compute(seconds=0.02) for _ in range(25)])
                await asyncio.sleep(0.02)  # until the process has started
            scaling = (await server.stats()).scaling
            assert scaling is not None
            assert (scaling.autoscaler, scaling.changes > 0) == (scaler, True)
            for handle in handles:
                await client.wait_for(handle, timeout=60)
            while len((await server.stats()).workers) > 1:  # noqa: ASYNC110  (of other processes)
                await asyncio.sleep(0.02)
            counts = await client.counts()
    assert counts[JobState.COMPLETED] == sum(counts.values()) == len(handles)
    assert "server shop scaled from 1 to 2 processes (waiting)" in caplog.text
    # A machine without a free processor gains nothing by the second one.
    assert re.search(r"server shop scaled from 2 to 1 processes \((idle|no gain)\)", caplog.text)
