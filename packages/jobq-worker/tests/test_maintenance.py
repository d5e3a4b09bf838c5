"""What one worker does for all, and what an idle one costs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import UUID

import pytest

from jobq_core import Backoff, JobCompleted, JobState, Retention, job, operations
from jobq_core.errors import StorageError, StorageUnavailableError
from jobq_core.ids import new_id
from jobq_core.records import WorkerInfo
from jobq_core.storage import Action, Change, JobFilter, Leadership, OperationState, QueueOptions
from jobq_core.testing import ManualClock
from jobq_worker import JobQueueWorker, left_operations, maintenance, outages
from jobq_worker.maintenance import Duty

from .kit import Endings, add, add_many, ending, state, until, working
from .probe import OPERATIONS, Probe


@job()
async def quick(n: int = 0) -> int:
    return n


@job(max_attempts=1)
async def broken() -> None:
    raise ValueError


async def test_one_of_several_workers_leads(storage: Probe) -> None:
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(working(storage, quick)) for _ in range(4)]
        await until(lambda: storage.calls["lead"] >= 4)
        await until(lambda: any(worker.health().leads for worker in workers))
        assert sum(worker.health().leads for worker in workers) == 1
        assert storage.calls["rescue"] == 1


async def test_another_leads_soon_after_the_leader_stopped(storage: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "TERM_SECONDS", 0.3)
    async with working(storage, quick) as first:
        await until(lambda: first.health().leads)
        async with working(storage, quick) as second:
            await storage.called("lead")
            await first.stop()
            assert storage.calls["resign"] == 1
            await until(lambda: second.health().leads)


async def test_another_leads_soon_after_a_worker_stopped_that_was_not_told_that_it_leads(storage: Probe) -> None:
    answered = storage.hold("lead")
    first = JobQueueWorker(storage, jobs=[quick])
    await first.start()
    await until(lambda: storage.calls["lead"] == 1)
    await first.stop()
    answered.set()
    assert (await storage.lead(new_id(), 10.0)).leads


class Terms(Probe):
    """Remembers for how long the lead was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.terms: set[float] = set()

    async def lead(self, worker: UUID, term: float) -> Leadership:
        self.terms.add(term)
        return await super().lead(worker, term)


@pytest.mark.parametrize(("lost_after", "term"), [(3.0, 1.5), (30.0, 10.0)])
async def test_a_dead_leader_is_replaced_before_its_jobs_are_rescued(lost_after: float, term: float) -> None:
    async with Terms() as storage, working(storage, quick, lost_after=lost_after, heartbeat_interval=1.0):
        await storage.called("lead")
        assert storage.terms == {term}


async def test_the_lost_are_looked_for_several_times_in_the_span_after_which_they_are(storage: Probe) -> None:
    async with working(storage, quick, lost_after=0.6, heartbeat_interval=0.1), asyncio.timeout(3):
        await storage.called("rescue", 5)


async def test_a_due_job_is_promoted_at_its_moment(storage: Probe) -> None:
    async with working(storage, quick, poll_interval=600) as worker:
        await storage.called("promote")
        endings = Endings(worker)
        added = asyncio.get_running_loop().time()
        job_id = await add(storage, quick(), delay=0.2)
        assert await state(storage, job_id) is JobState.SCHEDULED
        assert isinstance(await endings.of(job_id), JobCompleted)
        assert asyncio.get_running_loop().time() - added > 0.19  # and not 600 s, or the test would not end


async def test_jobs_that_a_load_of_due_ones_leaves_over_follow_at_once(storage: Probe) -> None:
    ids = await add_many(storage, [quick(n) for n in range(1500)], delay=0.01)
    async with working(storage, quick) as worker:
        await Endings(worker).all(ids[-1:])
        await until(lambda: worker.pool_stats().total.completed == 1500)
    assert storage.calls["promote"] >= 2


async def test_what_is_kept_for_no_time_is_gone_at_once(storage: Probe) -> None:
    async with working(storage, quick, broken, retention=Retention(completed=0, failed=None)) as worker:
        await storage.called("prune")
        done = await ending(worker, storage, quick())

        async def gone() -> bool:
            return await storage.get([done.job_id]) == [None]

        async with asyncio.timeout(5):  # and not when it is time to prune anyway
            await until(gone)
        failed = await ending(worker, storage, broken())
        assert await state(storage, failed.job_id) is JobState.FAILED


async def test_retention_is_stored_per_queue(storage: Probe) -> None:
    async with working(storage, quick, queues=["a", "b"], retention={"a": Retention(completed=None)}):
        pass
    async with working(storage, quick, queues=["a", "b"], retention=Retention(completed=5)):
        pass
    async with working(storage, quick):
        pass
    kept = QueueOptions(retention=Retention(completed=5))
    assert storage.arguments["set_queue"] == [
        ("a", QueueOptions(retention=Retention(completed=None)), "worker"),
        ("a", kept, "worker"),
        ("b", kept, "worker"),
    ]


async def test_a_workers_retention_does_not_replace_an_operators(storage: Probe) -> None:
    await storage.set_queue("default", QueueOptions(retention=Retention(completed=None)))
    async with working(storage, quick, retention=Retention(completed=5)):
        pass
    [queue] = await storage.queues()
    assert queue.retention == Retention(completed=None)


async def test_an_idle_worker_makes_at_most_two_transactions_a_second(storage: Probe) -> None:
    async with working(storage, quick) as worker:
        await until(lambda: worker.health().leads)
        await storage.called("settle_and_claim")
        before, since = sum(storage.calls[name] for name in OPERATIONS), asyncio.get_running_loop().time()
        await storage.called("settle_and_claim", 4)  # four polls: no notification comes
        made = sum(storage.calls[name] for name in OPERATIONS) - before
        seconds = asyncio.get_running_loop().time() - since
    assert made / seconds <= 2
    assert seconds > 3.9


async def test_a_worker_that_does_not_lead_asks_when_the_lease_would_end(storage: Probe) -> None:
    async with working(storage, quick, name="leader") as leader:
        await until(lambda: leader.health().leads)
        async with working(storage, quick) as other:
            await storage.called("lead")
            assert isinstance(other, JobQueueWorker)
            session = other._session
            assert session is not None
            loop = asyncio.get_running_loop()
            await until(lambda: session.maintenance._lead_at > loop.time())
            assert 9 < session.maintenance._lead_at - loop.time() < 10.6


@pytest.mark.parametrize("broken_part", ["prune", "promote", "expire", "rescue", "resolve"])
async def test_a_part_that_fails_each_time_stops_none_of_the_others(
    storage: Probe, broken_part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise StorageError("a row that it cannot bear")

    monkeypatch.setattr(maintenance, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(maintenance, "RESCUE_SECONDS", 0.05)
    setattr(storage, broken_part, refuse)
    others = {"prune", "promote", "expire", "rescue", "resolve"} - {broken_part}
    async with working(storage, quick) as worker:
        await until(lambda: all(storage.calls[part] >= 3 for part in others))
        assert worker.health().storage_failing
        assert isinstance(await ending(worker, storage, quick()), JobCompleted)


async def test_a_lasting_error_of_one_duty_is_logged_once_and_backs_off_alone(
    storage: Probe, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "BACKOFF", Backoff(base=0.001, maximum=0.01))
    caplog.set_level(logging.WARNING)
    storage.fail("prune", 10_000, error=StorageError("no replica identity"))
    async with working(storage, quick) as worker:
        await storage.called("prune", 30)
        others = {name: storage.calls[name] for name in ("promote", "expire", "rescue", "lead")}
        assert max(others.values()) <= 4, others
        assert worker.health().leads
        assert not worker.health().healthy
    [said] = caplog.messages
    assert said.endswith("maintenance (pruning) failed; retrying: StorageError: no replica identity")


class Electing(Probe):
    """A storage that says who leads."""

    elected = True

    async def lead(self, worker: UUID, term: float) -> Leadership:
        await super().lead(worker, term)
        return Leadership(self.elected, term)


async def test_a_duty_that_failed_and_passed_to_another_leader_leaves_a_worker_healthy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(maintenance, "TERM_SECONDS", 0.1)
    caplog.set_level(logging.WARNING)
    async with Electing() as storage:
        storage.fail("expire", 10_000)
        storage.fail("prune", 10_000, error=StorageError("no replica identity"))
        async with working(storage, quick) as worker:
            await storage.called("prune", 2)
            assert worker.health().storage_failing
            storage.elected = False
            await until(lambda: worker.health().healthy)
            assert not worker.health().leads
    assert "the storage is back" in caplog.text
    assert "works again" not in caplog.text, "nobody knows whether it does"


async def test_a_job_past_its_deadline_fails_where_it_waits_within_moments(storage: Probe) -> None:
    async with working(storage, quick, queues=["other"], poll_interval=600):
        await storage.called("expire")
        ids = await add_many(storage, [quick(), quick()], deadline=0.3)
        ids += await add_many(storage, [quick()], deadline=0.3, delay=600)
        async with asyncio.timeout(5):  # and not ten seconds later, when it would look anyway
            for job_id in ids:
                await until(lambda job_id=job_id: _is(storage, job_id, JobState.FAILED))
    found = await storage.get(ids)
    assert {entry.error.type for entry in found if entry is not None and entry.error is not None} == {
        "jobq_core.errors.JobDeadlineError"
    }
    assert [entry.attempt for entry in found if entry is not None] == [0, 0, 0]


async def _is(storage: Probe, job_id: UUID, wanted: JobState) -> bool:
    return await state(storage, job_id) is wanted


async def test_the_leader_samples_the_depths_as_often_as_the_storage_says(
    storage: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sample() -> float:
        samples.append(len(samples))
        return 0.0 if len(samples) < 3 else 1000.0

    samples: list[int] = []
    monkeypatch.setattr(storage, "sample_depths", sample)
    monkeypatch.setattr(maintenance, "GAP_SECONDS", 0.0)
    async with working(storage, quick, heartbeat_interval=0.01) as worker:
        await until(lambda: len(samples) == 3)
        beats = storage.beats
        storage.deaf = True  # it then looks for what is due each second, but for this
        await until(lambda: storage.beats > beats + 2)
        assert worker.health().leads
    assert len(samples) == 3


async def test_the_leader_goes_on_with_an_operation_that_was_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    async with Probe(clock=clock) as storage:
        await add_many(storage, [quick(n) for n in range(7)], run_at=clock.now() + timedelta(hours=1))
        clock.advance(5)  # their ids are of the machine's clock, and must lie before the operation
        left = await operations.start(storage, Action.ABORT, JobFilter(kinds=["quick"]), actor="kai")
        left, _ = await operations.work(storage, left, slice=2)
        clock.advance(11)
        fresh = await operations.start(storage, Action.DELETE, JobFilter(kinds=["quick"]), actor="kai")
        monkeypatch.setattr(left_operations, "SLICE", 2)

        async def is_done() -> bool:
            return (await operations.get(storage, left.id)).state is OperationState.DONE

        async with working(storage, quick):
            await until(is_done)
        done = await operations.get(storage, left.id)
        assert (done.done, done.changed) == (7, 7)
        assert (await storage.counts("default"))["default"][JobState.ABORTED] == 7
        assert (await operations.get(storage, fresh.id)).done == 0


async def test_a_slice_that_fails_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    async with Probe(clock=clock) as storage:
        await add_many(storage, [quick(n) for n in range(4)], run_at=clock.now() + timedelta(hours=1))
        clock.advance(5)  # their ids are of the machine's clock, and must lie before the operation
        left = await operations.start(storage, Action.ABORT, JobFilter(kinds=["quick"]), actor="kai")
        clock.advance(11)
        abort, calls = storage.abort, 0

        async def flaky(ids: Sequence[UUID]) -> list[Change]:
            nonlocal calls
            calls += 1
            changes = await abort(ids)
            if calls == 1:
                raise StorageUnavailableError("the answer was lost")
            return changes

        monkeypatch.setattr(storage, "abort", flaky)

        async def is_done() -> bool:
            return (await operations.get(storage, left.id)).state is OperationState.DONE

        async with working(storage, quick) as worker:
            await until(is_done)
            await until(lambda: not worker.health().storage_failing)
        assert calls == 2
        assert (await operations.get(storage, left.id)).done == 4


async def test_a_worker_with_a_short_lost_after_is_rescued_in_time_beside_a_leader_with_a_long_one() -> None:
    clock = ManualClock()
    async with (
        Probe(clock=clock) as storage,
        working(storage, quick, lost_after=120, heartbeat_interval=0.01) as leader,
    ):
        await until(lambda: leader.health().leads and storage.calls["rescue"])
        brief = WorkerInfo(
            id=new_id(), name="brief", host="h", pid=1, queues=("q",), kinds=("quick",), concurrency=1, lost_after=2.0
        )
        rescues = storage.calls["rescue"]
        await storage.register(brief)
        await storage.called("rescue", rescues + 1 - storage.calls["rescue"])
        session = leader._session
        assert session is not None
        loop = asyncio.get_running_loop()
        await until(lambda: session.maintenance.rescue.due_at - loop.time() <= 2.0)
        assert session.maintenance.rescue.due_at - loop.time() > 0.5


async def test_a_leader_that_receives_no_notifications_looks_every_second(storage: Probe) -> None:
    storage.deaf = True
    loop = asyncio.get_running_loop()
    async with working(storage, quick, poll_interval=600) as worker:
        await until(lambda: worker.health().leads and storage.calls["promote"])
        since = loop.time()
        await asyncio.gather(*map(storage.called, ("promote", "expire", "rescue")))
        assert loop.time() - since < 3


async def _never() -> None: ...


DUE = {
    "a duty that is due": (Duty("d", _never, 10, 0.1, 1, due_at=5), True, True, 5),
    "a worker that does not lead": (Duty("d", _never, 10, 0.1, 1, due_at=5), False, True, float("inf")),
    "a duty that is forced": (Duty("d", _never, 10, 0.1, 1, due_at=5, forced=True), False, True, 0),
    "a forced duty that failed": (Duty("d", _never, 10, 0.1, 1, due_at=5, forced=True, not_before=3), False, True, 3),
    "a leader without notifications": (Duty("d", _never, 10, 0.1, 1, due_at=15, done_at=5), True, False, 6),
    "a duty in its backoff": (Duty("d", _never, 10, 0.1, 1, due_at=5, not_before=8), True, False, 8),
}


@pytest.mark.parametrize(("duty", "leads", "hears", "due"), DUE.values(), ids=DUE)
def test_a_duty_is_due(duty: Duty, leads: bool, hears: bool, due: float) -> None:
    assert duty.due(leads=leads, hears=hears) == due


def test_a_notification_brings_a_duty_forward_to_its_gap() -> None:
    duty = Duty("d", _never, 10, 0.25, 1, due_at=15, done_at=5)
    duty.bring_forward()
    assert duty.due_at == 5.25
    duty.bring_forward()
    assert duty.due_at == 5.25
