"""Queues, workers, statistics and health by commands."""

from __future__ import annotations

from uuid import uuid4

import pytest

from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import WorkerStats
from jobq_core.states import Ending
from jobq_core.storage import QueueStorage, WorkerRequest
from jobq_core.testing import ERROR, add_job, claim_one, register_worker, settle

from .conftest import Shell


async def busy(storage: QueueStorage) -> None:
    """One job completed, one failed, one running, two pending, one delayed."""
    worker = await register_worker(storage)
    for ending in (Ending.COMPLETE, Ending.FAIL):
        await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker), ending, error=ERROR)
    for _ in range(3):
        await add_job(storage)
    await claim_one(storage, worker)
    await add_job(storage, run_at=3600.0)


def test_status_shows_each_queue_with_its_jobs_and_workers(shell: Shell) -> None:
    shell.act(busy)
    [queue] = shell.json("status")
    assert queue["queue"] == "default"
    assert {state: jobs for state, jobs in queue["jobs"].items() if jobs} == {
        "pending": 2,
        "processing": 1,
        "scheduled": 1,
        "completed": 1,
        "failed": 1,
    }
    assert (queue["workers"], queue["slots"]) == (1, 4)
    assert queue["oldest_seconds"] >= 0
    heading, row = shell.run("status").output.splitlines()
    assert heading.split()[:3] == ["queue", "pending", "running"]
    assert row.split()[:4] == ["default", "2", "1", "1"]


def test_stats_have_what_ended_by_step(shell: Shell) -> None:
    shell.act(busy)
    points = shell.json("stats")["default"]
    assert sum(point["completed"] for point in points) == 1
    assert sum(point["failed"] for point in points) == 1
    assert "default" in shell.run("stats").output
    assert len(shell.json("stats", "--span", "week")["default"]) == 168


def test_top_shows_queues_workers_and_running_jobs_once(shell: Shell) -> None:
    shell.act(busy)
    shown = shell.run("top", "--once").output
    assert "tester" in shown
    assert "noop" in shown


def test_queues_are_paused_and_resumed(shell: Shell) -> None:
    shell.act(busy)
    shell.run("pause", "default", "--actor", "kai")
    assert "by kai" in shell.run("queues").output
    assert "(paused)" in shell.run("status").output
    assert shell.json("queues")[0]["options"]["paused_by"] == "kai"
    shell.run("resume", "default")
    assert shell.json("queues")[0]["retention"]["completed"] == 86_400
    assert [entry["action"] for entry in shell.json("audit")] == ["resume", "pause"]


def test_a_queue_that_does_not_exist_is_not_paused(shell: Shell) -> None:
    shell.act(busy)
    assert "there is no queue 'mial'; known queues: default" in shell.run("pause", "mial", code=1).output


def test_workers_are_listed(shell: Shell) -> None:
    shell.act(busy)
    [listed] = shell.json("workers")
    assert listed["alive"] is True
    assert listed["worker"]["info"]["name"] == "tester"
    assert "tester" in shell.run("workers").output


def test_the_slots_of_a_worker_are_those_of_its_last_heartbeat(shell: Shell) -> None:
    async def scaled(storage: QueueStorage) -> None:
        worker = await register_worker(storage)
        storage.heartbeat(worker).beat(WorkerStats(running=2, slots=16))

    shell.act(scaled)
    assert shell.json("workers")[0]["worker"]["stats"]["slots"] == 16
    heading, row = shell.run("workers").output.splitlines()
    end = heading.index("slots") + len("slots")  # the figures are aligned to the right
    assert row[:end].split()[-2:] == ["2", "16"]


def test_a_worker_is_asked_to_drain_by_its_name(shell: Shell) -> None:
    shell.act(busy)
    said = shell.run("workers", "drain", "tester", "--yes", "--timeout", 0).output
    assert said == "worker tester was asked to drain\n"

    async def asked(storage: QueueStorage) -> list[str]:
        [worker] = await storage.workers()
        return [request.action.value for request in await storage.worker_requests(worker.info.id)]

    assert shell.act(asked) == ["drain"]
    assert "there is no worker 'w9'; registered: tester" in shell.run("workers", "drain", "w9", "--yes", code=1).output


def test_what_a_worker_answers_to_drain_is_printed(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.act(busy)
    ask = MemoryQueueStorage.ask_worker

    async def ask_and_answer(storage: MemoryQueueStorage, request: WorkerRequest) -> bool:
        return await ask(storage, request) and await storage.answer_request(request.id, "it drains")

    monkeypatch.setattr(MemoryQueueStorage, "ask_worker", ask_and_answer)
    said = shell.run("workers", "drain", "tester", "--yes").output
    assert said == "worker tester was asked to drain: it drains\n"


def test_the_stack_of_a_job_that_does_not_run_is_refused(shell: Shell) -> None:
    job = shell.act(add_job)
    assert "is not running: it is pending" in shell.run("workers", "stack", job, code=1).output
    shell.run("workers", "stack", uuid4(), code=3)
    shell.run("workers", "stack", code=2)
    assert "no worker 'nobody'" in shell.run("workers", "stack", "--worker", "nobody", code=1).output


def test_a_worker_that_does_not_answer_is_not_waited_for_longer_than_told(shell: Shell) -> None:
    shell.act(busy)
    [running] = shell.json("jobs", "--state", "processing")["jobs"]
    assert "did not answer within 0 s" in shell.run("workers", "stack", running["id"], "--timeout", 0, code=4).output


def test_failed_groups_jobs_by_their_error(shell: Shell) -> None:
    shell.act(busy)
    [group] = shell.json("failed")
    assert (group["jobs"], group["type"], group["message"]) == (1, "ValueError", "no such file")
    assert "no such file" in shell.run("failed").output


def test_doctor_finds_nothing_then_an_error_and_exits_with_4(shell: Shell) -> None:
    assert shell.run("doctor").output == "No problems found.\n"
    shell.act(lambda storage: add_job(storage, queue="mail"))
    sick = shell.run("doctor", code=4).output
    assert "error    no-worker: no live worker serves queue 'mail', where 1 job waits" in sick
    assert "→ start a worker" in sick
    assert shell.json("doctor", code=4)[0]["code"] == "no-worker"
