"""The facet of workers, settling and claiming: the path that every job takes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from jobq_core.storage import (
    Claim,
    ClaimedJob,
    LeaseStatus,
    SettleAndClaimResult,
    Settlement,
    WorkerStorage,
    lease_lost,
)
from jobq_storage_sqlite.caller_connection import run_within
from jobq_storage_sqlite.claiming import Claiming, to_claimed
from jobq_storage_sqlite.columns import from_ids, to_array, to_request
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.settling import settle
from jobq_storage_sqlite.transaction import Transaction


class SettlingAndClaiming(StorageOnFile, WorkerStorage):
    """Settles and claims through the writer. SQLite has one writer at a time, so that no settlement is ever busy."""

    async def settle_and_claim(
        self, worker: UUID, settlements: Sequence[Settlement] = (), claim: Claim | None = None
    ) -> SettleAndClaimResult:
        return await self._write(partial(settle_and_claim, worker=worker, settlements=settlements, claim=claim))

    async def complete(self, settlement: Settlement, *, connection: Any) -> None:
        self._file()
        await run_within(connection, self.path, self._moment, partial(complete, settlement=settlement))

    async def mark_started(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[bool]:
        return await self._write(partial(mark_started, worker=worker, leases=leases)) if leases else []

    async def check_leases(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[LeaseStatus]:
        if not leases:
            return []
        ids, numbers = zip(*leases, strict=True)
        rows = await self._read("check_leases", ids=from_ids(ids), leases=to_array(numbers), worker=worker.bytes)
        requests = dict(rows)
        return [
            LeaseStatus(True, to_request(requests[position])) if position in requests else LeaseStatus(False)
            for position in range(len(leases))
        ]

    async def recover_claims(self, worker: UUID, leases: Collection[int]) -> list[ClaimedJob]:
        # In the writer, behind this process's own writes, so that it finds the claims of a call that was cancelled.
        return await self._write(partial(recover_claims, worker=worker, leases=leases))


def settle_and_claim(
    transaction: Transaction, worker: UUID, settlements: Sequence[Settlement], claim: Claim | None
) -> SettleAndClaimResult:
    """Settle runs, then free and claim jobs if the worker is alive."""
    settled = settle(transaction, settlements) if settlements else []
    alive = transaction.one("is_worker_alive", transaction.uptime, worker.bytes) is not None
    if not alive or claim is None or claim.limit <= 0:
        return SettleAndClaimResult(settled, [], alive)
    claiming = Claiming(transaction, worker, claim)
    claiming.free()
    claiming.take()
    return SettleAndClaimResult(
        settled,
        claiming.claimed,
        picked=claiming.picked,
        paused=claiming.paused,
        freed=claiming.freed,
        more=claiming.more,
    )


def complete(transaction: Transaction, settlement: Settlement) -> None:
    """Complete one run. Raises LeaseLostError if its lease is over."""
    if transaction.one("find_run", settlement.id.bytes, settlement.lease) is None:
        raise lease_lost(settlement)
    settle(transaction, [settlement])


def mark_started(transaction: Transaction, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[bool]:
    """Mark runs as started."""
    holder = worker.bytes
    return [transaction.run("mark_started", job_id.bytes, lease, holder).rowcount == 1 for job_id, lease in leases]


def recover_claims(transaction: Transaction, worker: UUID, leases: Collection[int]) -> list[ClaimedJob]:
    """Return the jobs that a worker holds beside the leases that it knows of."""
    known = frozenset(leases)
    rows = [row for row in transaction.all("find_claims", worker.bytes) if row[0] not in known]
    return [to_claimed(lease, attempt, job, transaction.now) for lease, attempt, *job in rows]
