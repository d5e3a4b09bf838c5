"""Control of many jobs: it works in committed chunks, says how far it is, and can be repeated."""

from __future__ import annotations

import pytest

from jobq_core.states import JobState
from jobq_core.storage import QueueStorage
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import add_job, new_job, state_of

S = JobState
MANY = 2_300


class StoppedError(Exception):
    """Raised by an `on_progress` to end the operation."""


class BulkContract(ContractBase):
    """`abort_run` and `clear` over more jobs than one transaction changes."""

    async def test_a_run_is_aborted_in_chunks_and_says_how_far_it_is(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        jobs = [new_job(run_id="mine") for _ in range(MANY)]
        await storage.add(jobs)
        kept = await add_job(storage, run_id="theirs")
        done: list[int] = []
        changes = await other.abort_run("mine", on_progress=done.append)
        assert sorted(change.id for change in changes) == sorted(job.id for job in jobs)
        assert {(change.before, change.after) for change in changes} == {(S.PENDING, S.ABORTED)}
        self._check_steps(done)
        assert await state_of(storage, kept) is S.PENDING
        assert await storage.abort_run("mine") == []

    async def test_a_queue_is_cleared_in_chunks_and_says_how_far_it_is(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        await storage.add([new_job(queue="full") for _ in range(MANY)])
        kept = await add_job(storage)
        done: list[int] = []
        assert await other.clear("full", on_progress=done.append) == MANY
        self._check_steps(done)
        assert await state_of(storage, kept) is S.PENDING
        assert (await storage.counts("full"))["full"][S.PENDING] == 0

    async def test_what_was_done_before_an_error_stays_and_the_rest_can_be_repeated(
        self, storage: QueueStorage
    ) -> None:
        def stop(done: int) -> None:
            raise StoppedError(done)

        jobs = [new_job(queue="full", run_id="mine") for _ in range(MANY)]
        await storage.add(jobs)
        with pytest.raises(StoppedError) as caught:
            await storage.abort_run("mine", on_progress=stop)
        done = caught.value.args[0]
        counts = (await storage.counts("full"))["full"]
        assert 0 < done == counts[S.ABORTED] < MANY
        assert counts[S.PENDING] == MANY - done
        assert len(await storage.abort_run("mine")) == MANY - done
        with pytest.raises(StoppedError) as caught:
            await storage.clear("full", on_progress=stop)
        assert await storage.clear("full") == MANY - caught.value.args[0]

    def _check_steps(self, done: list[int]) -> None:
        assert done[-1] == MANY
        steps = [later - sooner for sooner, later in zip([0, *done], done, strict=False)]
        assert all(0 < step <= 1000 for step in steps)
