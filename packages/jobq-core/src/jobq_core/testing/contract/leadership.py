"""The leadership of the maintenance: lead and resign."""

from __future__ import annotations

import asyncio

from jobq_core.ids import new_id
from jobq_core.storage import QueueStorage
from jobq_core.testing.contract.base import ContractBase


class LeadershipContract(ContractBase):
    """One worker at a time leads the maintenance, for a term."""

    async def test_the_first_to_ask_leads_for_its_term(self, storage: QueueStorage, other: QueueStorage) -> None:
        one, two = new_id(), new_id()
        leadership = await storage.lead(one, 60.0)
        assert leadership.leads
        assert 50 < leadership.expires_in <= 60
        await self.advance(storage, 20)
        leadership = await other.lead(two, 60.0)
        assert not leadership.leads
        assert 30 < leadership.expires_in <= 40

    async def test_the_leader_renews_its_term(self, storage: QueueStorage) -> None:
        one, two = new_id(), new_id()
        await storage.lead(one, 60.0)
        await self.advance(storage, 40)
        leadership = await storage.lead(one, 60.0)
        assert leadership.leads
        assert 50 < leadership.expires_in <= 60
        await self.advance(storage, 40)
        assert not (await storage.lead(two, 60.0)).leads

    async def test_another_leads_once_the_term_is_over(self, storage: QueueStorage, other: QueueStorage) -> None:
        one, two = new_id(), new_id()
        await storage.lead(one, 60.0)
        await self.advance(storage, 61)
        assert (await other.lead(two, 60.0)).leads
        assert not (await storage.lead(one, 60.0)).leads

    async def test_another_leads_at_once_when_the_leader_resigns(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        one, two = new_id(), new_id()
        await storage.lead(one, 60.0)
        await storage.resign(two)
        assert not (await other.lead(two, 60.0)).leads
        await storage.resign(one)
        assert (await other.lead(two, 60.0)).leads
        await storage.resign(one)
        assert not (await storage.lead(one, 60.0)).leads

    async def test_of_many_that_ask_at_once_one_leads(self, storage: QueueStorage, other: QueueStorage) -> None:
        for _ in range(8):
            workers = [new_id() for _ in range(8)]
            answers = await asyncio.gather(
                *((storage, other)[n % 2].lead(worker, 60.0) for n, worker in enumerate(workers))
            )
            [leader] = [worker for worker, answer in zip(workers, answers, strict=True) if answer.leads]
            await storage.resign(leader)
