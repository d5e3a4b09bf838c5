from __future__ import annotations

import pytest

from jobq_core import job
from jobq_core.memory import MemoryQueueStorage
from jobq_worker import JobQueueWorker


@job()
async def quick() -> None: ...


async def test_health_and_the_log_tell_what_keeps_the_storage_from_its_promises(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(MemoryQueueStorage, "warnings", ("the disk is a sieve",))
    async with MemoryQueueStorage() as storage, JobQueueWorker(storage, jobs=[quick]) as worker:
        assert worker.health().warnings == ("the disk is a sieve",)
        assert worker.health().healthy
    assert f"worker {worker.name}: the disk is a sieve" in caplog.messages
