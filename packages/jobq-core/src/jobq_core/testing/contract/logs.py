"""The optional facet of logs: kept by runs, read in their order, and removed with their job."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from msgspec.structs import replace

from jobq_core.errors import ClosedError
from jobq_core.ids import new_id
from jobq_core.records import WorkerInfo
from jobq_core.states import Ending
from jobq_core.storage import LogLine, LogPart, LogStorage, QueueOptions, QueueStorage, Retention
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import add_job, claim_one, settle

LOGGED = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)


def new_part(job: UUID, lease: int = 7, part: int = 0, *messages: str, attempt: int = 1) -> LogPart:
    """Return a part with a line for each message (default: one)."""
    return LogPart(
        job=job,
        lease=lease,
        attempt=attempt,
        part=part,
        lines=tuple(
            LogLine(LOGGED + timedelta(microseconds=number), "INFO", "shop.mail", message)
            for number, message in enumerate(messages or (f"part {part} of lease {lease}",))
        ),
    )


def kept(storage: QueueStorage) -> LogStorage:
    """Return the storage as one with the facet."""
    assert isinstance(storage, LogStorage)
    return storage


async def places(storage: QueueStorage, job: UUID, **options: object) -> Sequence[tuple[int, int]]:
    """Return the places of the parts that are read."""
    return [part.place for part in await kept(storage).read_logs(job, **options)]  # type: ignore[arg-type]


class LogsContract(ContractBase):
    """`write_logs` and `read_logs`."""

    async def test_lines_are_read_as_they_were_logged(self, storage: QueueStorage, other: QueueStorage) -> None:
        job = await add_job(storage)
        texts = ("é ☃ 𝄞", 'a "quoted" \\ one', "two\nlines\ttab", "\x1b[31mred\x07", "", "x" * 8192)
        written = new_part(job, 7, 0, *texts)
        before = await storage.now()
        await kept(storage).write_logs([written])
        (read,) = await kept(other).read_logs(job)
        assert read.at is not None
        assert before <= read.at <= await storage.now()
        assert replace(read, at=None) == written

    async def test_parts_are_in_the_order_of_leases_and_numbers(self, storage: QueueStorage) -> None:
        job, neighbour = await add_job(storage), await add_job(storage)
        parts = [new_part(job, 9, 1), new_part(job, 12, 0, attempt=2), new_part(job, 9, 0), new_part(neighbour, 10)]
        await kept(storage).write_logs(parts)
        await kept(storage).write_logs([new_part(job, 9, 10), new_part(job, 9, 2)])
        assert await places(storage, job) == [(9, 0), (9, 1), (9, 2), (9, 10), (12, 0)]
        assert await places(storage, neighbour) == [(10, 0)]
        assert await places(storage, job, attempt=2) == [(12, 0)]
        assert await places(storage, job, attempt=3) == []

    async def test_the_last_parts_of_a_range_are_read(self, storage: QueueStorage) -> None:
        job = await add_job(storage)
        await kept(storage).write_logs([new_part(job, lease, part) for lease in (3, 5) for part in range(3)])
        assert await places(storage, job, limit=2) == [(5, 1), (5, 2)]
        assert await places(storage, job, before=(5, 1), limit=2) == [(3, 2), (5, 0)]
        assert await places(storage, job, after=(3, 1)) == [(3, 2), (5, 0), (5, 1), (5, 2)]
        assert await places(storage, job, after=(3, 1), before=(5, 2), limit=2) == [(5, 0), (5, 1)]
        assert await places(storage, job, after=(5, 2)) == []
        assert await places(storage, job, limit=0) == []

    async def test_a_part_that_is_sent_again_stays_as_it_is(self, storage: QueueStorage, other: QueueStorage) -> None:
        job = await add_job(storage)
        await kept(storage).write_logs([new_part(job, 7, 0, "first")])
        before = await kept(storage).read_logs(job)
        await self.advance(storage, 60)
        await kept(other).write_logs([new_part(job, 7, 0, "second"), new_part(job, 7, 1, "next")])
        after = await kept(storage).read_logs(job)
        assert after[:1] == before
        assert [line.message for part in after for line in part.lines] == ["first", "next"]

    async def test_a_part_of_a_job_that_does_not_exist_is_left_out(self, storage: QueueStorage) -> None:
        job, unknown = await add_job(storage), new_id()
        await kept(storage).write_logs([new_part(unknown), new_part(job)])
        assert await places(storage, unknown) == []
        assert await places(storage, job) == [(7, 0)]
        await kept(storage).write_logs([])

    async def test_logs_are_written_in_each_state_of_a_job(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage)
        await kept(storage).write_logs([new_part(job, 1)])
        claimed = await claim_one(storage, worker)
        await kept(storage).write_logs([new_part(job, claimed.lease + 1)])
        await settle(storage, worker, claimed)
        await kept(storage).write_logs([new_part(job, claimed.lease + 2)])
        assert await places(storage, job) == [(1, 0), (claimed.lease + 1, 0), (claimed.lease + 2, 0)]

    async def test_retrying_a_job_keeps_its_logs(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        await kept(storage).write_logs([new_part(job, claimed.lease)])
        await settle(storage, worker, claimed, Ending.FAIL)
        await storage.retry([job])
        again = await claim_one(storage, worker)
        await kept(storage).write_logs([new_part(job, again.lease)])
        assert await places(storage, job) == [(claimed.lease, 0), (again.lease, 0)]

    @pytest.mark.parametrize("removal", ["delete", "clear", "prune"])
    async def test_logs_are_removed_with_their_job(
        self, storage: QueueStorage, worker: WorkerInfo, removal: str
    ) -> None:
        job, stays = await add_job(storage), await add_job(storage, queue="stays")
        await settle(storage, worker, await claim_one(storage, worker))
        await kept(storage).write_logs([new_part(job), new_part(job, 8), new_part(stays)])
        if removal == "delete":
            await storage.delete([job])
        elif removal == "clear":
            await storage.clear("default")
        else:
            await storage.set_queue("default", QueueOptions(retention=Retention(completed=0)))
            await storage.prune()
        assert await places(storage, job) == []
        assert await places(storage, stays) == [(7, 0)]
        await add_job(storage, id=job)
        assert await places(storage, job) == []

    async def test_a_job_that_is_deleted_while_its_lines_are_written_has_none(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        jobs = [await add_job(storage) for _ in range(10)]
        await asyncio.gather(
            *(kept(storage).write_logs([new_part(job, part=part) for job in jobs]) for part in range(3)),
            *(other.delete([job]) for job in jobs),
            *(kept(storage).write_logs([new_part(job, part=part) for job in jobs]) for part in range(3, 6)),
        )
        assert [await places(storage, job) for job in jobs] == [[]] * len(jobs)

    async def test_logs_of_a_storage_that_is_closed_raise_closed_error(self, storage: QueueStorage) -> None:
        job = await add_job(storage)
        await storage.close()
        with pytest.raises(ClosedError):
            await kept(storage).write_logs([new_part(job)])
        with pytest.raises(ClosedError):
            await kept(storage).read_logs(job)
