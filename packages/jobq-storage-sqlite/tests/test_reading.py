"""Reading: values at the limits of a column, and finding by state."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobq_core.records import ErrorRecord, Progress
from jobq_core.states import Ending, JobState
from jobq_core.storage import JobFilter, ProgressReport
from jobq_core.testing import ERROR, add_job, claim_one, read, register_worker, settle
from jobq_storage_sqlite import SqliteQueueStorage, candidates


@pytest.mark.parametrize(
    "data",
    [b"{}", b'{"a":"\xe2\x98\x83"}', b'{ "a" :1.0}', b'"' + b"x" * 1_000_000 + b'"', b'{"a":"\\u0041","b":1e400}'],
    ids=["empty", "unicode", "spaces", "large", "spellings"],
)
async def test_arguments_and_results_are_kept_byte_for_byte(storage: SqliteQueueStorage, data: bytes) -> None:
    worker = await register_worker(storage)
    job = await add_job(storage, arguments=data)
    claimed = await claim_one(storage, worker)
    assert claimed.arguments == data
    await settle(storage, worker, claimed, result=data)
    record = await read(storage, job)
    assert (record.arguments_json, record.result_json) == (data, data)


async def test_an_error_with_lone_surrogates_and_nul_is_kept(storage: SqliteQueueStorage) -> None:
    worker = await register_worker(storage)
    job = await add_job(storage)
    claimed = await claim_one(storage, worker)
    report = ProgressReport(id=job, lease=claimed.lease, progress=Progress(percent=1.0, message="caf\udce9"))
    assert await storage.progress(worker.id, [report]) == [True]
    error = ErrorRecord(type="OSError", message="no file caf\udce9\0 ☃", traceback="caf\udce9")
    await settle(storage, worker, claimed, Ending.FAIL, error=error)
    record = await read(storage, job)
    assert record.error == ErrorRecord(type="OSError", message="no file caf\\udce9\0 ☃", traceback="caf\\udce9")
    assert record.progress.message == "caf\\udce9"


async def test_failures_are_found_by_state_and_by_id_alike(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SqliteQueueStorage(path) as storage:
        worker = await register_worker(storage)
        for turn in range(20):
            await add_job(storage)
            ending = Ending.FAIL if turn % 3 else Ending.COMPLETE
            await settle(storage, worker, await claim_one(storage, worker), ending, error=ERROR)
        wanted = JobFilter(states=frozenset({JobState.FAILED, JobState.ABORTED}))
        first = await storage.find(wanted, limit=5)
        by_state = await storage.find(wanted, after=first.cursor)
        monkeypatch.setattr(candidates, "FEW", -1)
        assert await storage.find(wanted, limit=5) == first
        assert await storage.find(wanted, after=first.cursor) == by_state
        assert len(first.jobs) + len(by_state.jobs) == 13
