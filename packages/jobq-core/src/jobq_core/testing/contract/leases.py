"""Running jobs: marking starts, checking leases, recovering claims, and progress."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobq_core.ids import new_id
from jobq_core.records import Progress, WorkerInfo
from jobq_core.states import Ending, JobState, StopRequest
from jobq_core.storage import ClaimedJob, LeaseStatus, ProgressReport, QueueStorage
from jobq_core.testing.contract.adding import WORDS
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.contract.settling import claim_one_each, settlement
from jobq_core.testing.helpers import add_job, case, claim, claim_one, new_job, read, register_worker, settle

HALF = Progress(percent=50.0, message="half", details={"rows": [1, 2]})

PROGRESS = [
    HALF,
    Progress(),
    Progress(percent=33.3),
    Progress(percent=100.0, message=WORDS, details=WORDS),
    Progress(percent=1.0, message="", details=""),
    *(Progress(details=details) for details in (0, False, [], {}, None, 1.5, [None], {"a": {"b": [[1]]}})),
    Progress(details=["x" * 60_000]),
]
"""Reports that must be returned as they are, falsy details included."""


def report(claimed: ClaimedJob, progress: Progress = HALF) -> ProgressReport:
    """Return a report of a claimed job."""
    return ProgressReport(id=claimed.id, lease=claimed.lease, progress=progress)


class LeasesContract(ContractBase):
    """A worker can mark starts, check its leases, recover lost claims and report progress."""

    # mark_started

    async def test_only_a_run_whose_lease_is_held_is_marked_as_started(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        await storage.add([new_job(max_attempts=1) for _ in range(3)])
        runs, settled, deleted = await claim(storage, worker)
        await settle(storage, worker, settled)
        await storage.delete([deleted.id])
        stranger = await register_worker(storage)
        mine = (runs.id, runs.lease)
        leases = [(settled.id, settled.lease), mine, (deleted.id, deleted.lease), (new_id(), 1), (runs.id, 10**9), mine]
        assert await other.mark_started(worker.id, leases) == [False, True, False, False, False, True]
        assert await storage.mark_started(worker.id, [mine]) == [True]
        assert await storage.mark_started(stranger.id, [mine]) == [False]
        assert await storage.mark_started(worker.id, []) == []

    async def test_marking_a_start_changes_nothing_in_the_record(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage, max_attempts=1)
        claimed = await claim_one(storage, worker)
        await storage.progress(worker.id, [report(claimed)])
        await storage.abort([job])
        before = await read(storage, job)
        assert await other.mark_started(worker.id, [(claimed.id, claimed.lease)]) == [True]
        assert await read(storage, job) == before
        assert await storage.check_leases(worker.id, [(claimed.id, claimed.lease)]) == [
            LeaseStatus(True, StopRequest.ABORT)
        ]
        assert await settle(storage, worker, claimed, Ending.ABORT) is JobState.ABORTED

    async def test_many_runs_are_marked_as_started_at_once(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        await storage.add([new_job(max_attempts=1) for _ in range(1_200)])
        leases = [(job.id, job.lease) for job in await claim(storage, worker, 1_200)]
        assert await storage.mark_started(worker.id, leases) == [True] * 1_200

    # check_leases

    async def test_a_claimed_job_is_held(self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo) -> None:
        await add_job(storage)
        claimed = await claim_one(storage, worker)
        assert await other.check_leases(worker.id, [(claimed.id, claimed.lease)]) == [LeaseStatus(True)]
        stranger = await register_worker(other)
        assert await other.check_leases(stranger.id, [(claimed.id, claimed.lease)]) == [LeaseStatus(False)], (
            "it is another's"
        )

    async def test_a_lease_status_has_the_request_to_its_job(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        await storage.add([new_job() for _ in range(3)])
        plain, aborted, disabled = await claim(storage, worker)
        await other.abort([aborted.id])
        await other.disable([disabled.id])
        leases = [(job.id, job.lease) for job in (plain, aborted, disabled)]
        assert await storage.check_leases(worker.id, leases) == [
            LeaseStatus(True),
            LeaseStatus(True, StopRequest.ABORT),
            LeaseStatus(True, StopRequest.DISABLE),
        ]

    async def test_a_lease_is_held_until_the_jobs_of_its_expired_worker_are_rescued(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        await add_job(storage)
        claimed = await claim_one(storage, worker)
        await self.advance(storage, worker.lost_after + 1)
        assert await storage.check_leases(worker.id, [(claimed.id, claimed.lease)]) == [LeaseStatus(True)]
        await storage.rescue()
        assert await storage.check_leases(worker.id, [(claimed.id, claimed.lease)]) == [LeaseStatus(False)]
        heir = await register_worker(storage)
        again = await claim_one(storage, heir)
        assert await storage.check_leases(worker.id, [(claimed.id, claimed.lease)]) == [LeaseStatus(False)]
        assert await storage.check_leases(heir.id, [(again.id, again.lease)]) == [LeaseStatus(True)]

    @pytest.mark.parametrize("removed", ["delete", "clear"])
    async def test_the_lease_of_a_deleted_job_is_not_held(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo, removed: str
    ) -> None:
        await add_job(storage)
        claimed = await claim_one(storage, worker)
        await (other.delete([claimed.id]) if removed == "delete" else other.clear("default"))
        assert await storage.check_leases(worker.id, [(claimed.id, claimed.lease)]) == [LeaseStatus(False)]

    async def test_leases_are_answered_in_order_and_those_of_others_are_not_held(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        await storage.add([new_job() for _ in range(2)])
        one, two = await claim(storage, worker)
        asked = [(new_id(), one.lease), (two.id, two.lease), (one.id, two.lease), (one.id, one.lease)]
        assert [status.held for status in await storage.check_leases(worker.id, asked)] == [False, True, False, True]
        assert await storage.check_leases(worker.id, []) == []

    async def test_more_than_a_thousand_leases_can_be_checked_at_once(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        await storage.add([new_job() for _ in range(1_200)])
        claimed = await claim(storage, worker, 1_200)
        await storage.abort([claimed[1_100].id])
        statuses = await storage.check_leases(worker.id, [(job.id, job.lease) for job in claimed])
        assert [n for n, status in enumerate(statuses) if status != LeaseStatus(True)] == [1_100]
        assert len(await storage.recover_claims(worker.id, [job.lease for job in claimed])) == 0
        assert len(await storage.recover_claims(worker.id, [])) == 1_200

    # recover_claims

    async def test_jobs_claimed_by_a_call_whose_answer_was_lost_are_recovered(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        stranger = await register_worker(storage)
        await storage.add(
            [new_job(arguments=b'{"n":1}', timeout=5.0, deadline=600.0, run_id="r", tags=("t",), backoff=b"{}")]
        )
        await storage.add([new_job() for _ in range(3)])
        first, second, settled = await claim(storage, worker, 3)
        await claim_one(storage, stranger)
        await settle(storage, worker, settled)
        [recovered] = await other.recover_claims(worker.id, [second.lease])
        for name in ("id", "lease", "queue", "kind", "arguments", "attempt", "max_attempts", "priority", "timeout"):
            assert getattr(recovered, name) == getattr(first, name)
        assert (recovered.backoff, recovered.run_id, recovered.tags) == (b"{}", "r", ("t",))
        assert recovered.deadline_in is not None
        assert 540 < recovered.deadline_in <= 600
        assert sorted(job.id for job in await storage.recover_claims(worker.id, [])) == sorted([first.id, second.id])
        assert await storage.recover_claims(worker.id, [first.lease, second.lease, 0]) == []

    async def test_recovering_claims_changes_nothing(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        before = await read(storage, job)
        await storage.recover_claims(worker.id, [])
        assert await read(storage, job) == before
        assert await settle(storage, worker, claimed) is JobState.COMPLETED

    async def test_rescued_and_deleted_jobs_are_not_recovered(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        await add_job(storage)
        await claim_one(storage, worker)
        await self.advance(storage, worker.lost_after + 1)
        await storage.rescue()
        assert await storage.recover_claims(worker.id, []) == []

    # progress

    async def test_progress_is_kept_as_reported(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        for progress in PROGRESS:
            with case(repr(progress)[:80]):
                assert await storage.progress(worker.id, [report(claimed, progress)]) == [True]
                assert (await read(other, job)).progress == progress
                [status] = await other.get_status([job])
                assert status is not None
                assert status.progress == progress
                assert type(status.progress.details) is type(progress.details)

    async def test_stored_progress_does_not_share_the_reporters_object(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        details: dict[str, Any] = {"rows": [1]}
        await storage.progress(worker.id, [report(await claim_one(storage, worker), Progress(details=details))])
        details["rows"].append(2)
        first = (await read(storage, job)).progress
        assert first.details == {"rows": [1]}
        first.details.clear()
        assert (await read(storage, job)).progress.details == {"rows": [1]}

    async def test_the_last_report_counts_and_stays_with_its_job(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        one, two = await add_job(storage), await add_job(storage)
        first, second = await claim(storage, worker)
        last = Progress(percent=10.0, details={"other": 1})
        assert await storage.progress(worker.id, [report(first), report(second)]) == [True, True]
        assert await storage.progress(worker.id, [report(first, last)]) == [True]
        assert (await read(storage, one)).progress == last
        assert (await read(storage, two)).progress == HALF

    async def test_progress_after_the_run_is_refused_and_not_stored(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        runs = await claim_one_each(storage, worker)
        await storage.settle_and_claim(worker.id, [settlement(*run) for run in runs])
        before = await storage.get([claimed.id for claimed, *_ in runs])
        for claimed, ending, when in runs:
            with case(f"{ending} {when}"):
                assert await storage.progress(worker.id, [report(claimed)]) == [False]
        assert await storage.get([claimed.id for claimed, *_ in runs]) == before

    async def test_progress_under_a_lost_lease_is_refused_and_not_stored(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        await self.advance(storage, worker.lost_after + 1)
        await storage.rescue()
        await claim_one(storage, await register_worker(storage))
        before = await read(storage, job)
        assert await storage.progress(worker.id, [report(claimed)]) == [False]
        assert await read(storage, job) == before

    async def test_a_new_run_starts_without_progress(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        await storage.progress(worker.id, [report(claimed)])
        await settle(storage, worker, claimed, Ending.RETRY)
        await claim_one(storage, worker)
        assert (await read(storage, job)).progress == Progress()

    async def test_reports_are_answered_in_order(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        await storage.add([new_job() for _ in range(3)])
        one, two, three = await claim(storage, worker)
        await settle(storage, worker, two)
        stranger = ProgressReport(id=new_id(), lease=one.lease, progress=HALF)
        reports = [report(two), report(one), stranger, report(three)]
        assert await storage.progress(worker.id, reports) == [False, True, False, True]
        assert await storage.progress(worker.id, []) == []

    async def test_more_than_a_thousand_jobs_can_report_at_once(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        await storage.add([new_job() for _ in range(1_200)])
        claimed = await claim(storage, worker, 1_200)
        reports = [report(job, Progress(percent=n / 12)) for n, job in enumerate(claimed)]
        assert await storage.progress(worker.id, reports) == [True] * 1_200
        statuses = await storage.get_status([job.id for job in claimed])
        assert [status and status.progress.percent for status in statuses] == [n / 12 for n in range(1_200)]

    async def test_progress_at_the_same_time_as_the_end_does_not_undo_it(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        for _ in range(15):
            job = await add_job(storage)
            claimed = await claim_one(storage, worker)
            [_, state] = await asyncio.gather(
                other.progress(worker.id, [report(claimed)]), settle(storage, worker, claimed)
            )
            assert state is JobState.COMPLETED
            assert (await read(storage, job)).state is JobState.COMPLETED
