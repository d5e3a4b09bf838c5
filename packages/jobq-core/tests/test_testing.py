"""The conformance suite itself: it runs for a third party, and finds storages that break the contract."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import WorkerInfo
from jobq_core.states import JobState
from jobq_core.storage import QueueStorage
from jobq_core.testing import ManualClock, StorageContract, job_in, register_worker, state_of
from jobq_core.testing.contract.life import CALLS

THIRD_PARTY = """
from uuid import uuid4

import pytest_asyncio

from jobq_core.memory import MemoryQueueStorage
from jobq_core.testing import ManualClock, StorageContract


class Theirs(MemoryQueueStorage):
    {fault}


class TestTheirs(StorageContract):
    @pytest_asyncio.fixture
    async def storage(self):
        self.clock = ManualClock()
        async with Theirs(str(uuid4()), clock=self.clock) as storage:
            yield storage

    async def second(self, storage):
        other = Theirs(storage.url.removeprefix("memory://"))
        await other.open()
        return other

    async def advance(self, storage, seconds):
        self.clock.advance(seconds)
"""

FAULTS = {
    "test_a_resumed_worker_cannot_settle_a_lease_it_lost": """
    async def settle_and_claim(self, worker, settlements=(), claim=None):
        for settlement in settlements:
            row = self._store.jobs.get(settlement.id)
            if row is not None and row.lease is not None:
                settlement.lease = row.lease
        return await super().settle_and_claim(worker, settlements, claim)
    """,
    "test_ten_claimers_of_one_job_get_it_once": """
    async def settle_and_claim(self, worker, settlements=(), claim=None):
        import asyncio
        from jobq_core.storage import SettleAndClaimResult
        if claim is None:
            return await super().settle_and_claim(worker, settlements, claim)
        with self._transaction() as store:
            lines = store.queue("default").lines.values()
            seen = [row for line in lines for row in line.values()][:claim.limit]
        await asyncio.sleep(0)
        from jobq_core.memory import claiming
        with self._transaction() as store:
            claimed = [claiming.claim_one(store, worker, row, store.clock.now()) for row in seen]
            return SettleAndClaimResult([], claimed)
    """,
    "test_a_notification_wakes_a_subscription_that_waits": """
    def subscribe(self, topics):
        return super().subscribe(["nothing"])
    """,
}
"""Storages with one fault, by the test that must find it."""


def run_suite(folder: Path, fault: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the suite on a third party's storage, in a process without this project's settings."""
    test = folder / "test_theirs.py"
    test.write_text(THIRD_PARTY.format(fault=fault))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(test)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_third_partys_storage_passes_in_strict_mode(tmp_path: Path) -> None:
    run = run_suite(tmp_path, "pass", "-o", "asyncio_default_fixture_loop_scope=function", "-W", "error")
    assert run.returncode == 0, run.stdout
    assert "skipped" not in run.stdout


@pytest.mark.parametrize(("test", "fault"), FAULTS.items(), ids=FAULTS.keys())
def test_a_storage_that_breaks_the_contract_fails(tmp_path: Path, test: str, fault: str) -> None:
    run = run_suite(tmp_path, fault, "-k", test, "--timeout", "5")
    assert run.returncode == 1, run.stdout
    assert f"FAILED test_theirs.py::TestTheirs::{test}" in run.stdout
    assert "\ntest_theirs.py:" not in run.stdout, "the fault itself raised an error"


def test_a_test_class_without_a_second_object_cannot_be_made() -> None:
    class Lacking(StorageContract):
        pass

    with pytest.raises(TypeError, match=r"advance.*second"):
        Lacking()  # type: ignore[abstract]


def test_no_part_of_the_suite_hides_a_test_of_another() -> None:
    parts = [part for part in StorageContract.__mro__ if part.__module__.startswith("jobq_core.testing")]
    names = [name for part in parts for name in vars(part) if name.startswith("test_")]
    assert len(names) > 200
    assert sorted(names) == sorted(set(names))


def test_every_operation_is_tested_on_a_closed_storage() -> None:
    operations = {
        name
        for name in QueueStorage.__abstractmethods__
        if inspect.iscoroutinefunction(getattr(QueueStorage, name))
        # `complete` cannot be called without a connection.
        and name not in ("open", "close", "migrate", "complete")
    }
    assert set(CALLS) == operations


def test_a_manual_clock_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(5.0)
    assert (clock(), clock()) == (5.0, 5.0)
    clock.advance(2.5)
    assert clock() == 7.5


@pytest.mark.parametrize("state", JobState)
async def test_a_job_is_brought_into_each_state(state: JobState) -> None:
    async with MemoryQueueStorage() as storage:
        worker: WorkerInfo = await register_worker(storage)
        assert await state_of(storage, await job_in(storage, worker, state)) is state
