"""Summaries: `find` returns jobs without their payloads, `get` the whole."""

from __future__ import annotations

from jobq_core.records import JobRecord, Progress, WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import JobFilter, ProgressReport, QueueStorage
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import ERROR, add_job, claim_one, job_in, read, settle

S = JobState


class SummariesContract(ContractBase):
    """What `find` returns is what `get` returns, without arguments, results, details, tracebacks and attempts."""

    async def test_a_summary_is_the_record_without_its_payloads(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        options = {"run_id": "r", "tags": ("x", "y"), "timeout": 5.0, "priority": 3, "unique_key": None}
        jobs = [await job_in(storage, worker, state, **options) for state in S if state is not S.PENDING]
        jobs.append(await add_job(storage, deadline=600.0, unique_key="k"))
        found = (await other.find(JobFilter())).jobs
        assert sorted(job.id for job in found) == sorted(jobs)
        for summary in found:
            record = await read(other, summary.id)
            assert not isinstance(summary, JobRecord)
            for name in summary.__struct_fields__:
                if name not in ("error", "progress"):
                    assert getattr(summary, name) == getattr(record, name), name
            assert (summary.finished, summary.aborting) == (record.finished, record.aborting)

    async def test_errors_and_progress_are_shown_without_traceback_and_details(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        await add_job(storage)
        claimed = await claim_one(storage, worker)
        progress = Progress(percent=40.0, message="half", details=list(range(100)))
        report = ProgressReport(id=claimed.id, lease=claimed.lease, progress=progress)
        await storage.progress(worker.id, [report])
        [running] = (await storage.find(JobFilter())).jobs
        assert running.progress == Progress(percent=40.0, message="half")
        await settle(storage, worker, claimed, Ending.FAIL, error=ERROR)
        [failed] = (await storage.find(JobFilter())).jobs
        assert failed.error is not None
        assert (failed.error.type, failed.error.message) == (ERROR.type, ERROR.message)
        assert failed.error.traceback is None
