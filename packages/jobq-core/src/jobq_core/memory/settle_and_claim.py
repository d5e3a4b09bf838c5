"""Settling runs and claiming jobs: the path that every job takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from jobq_core.memory.adding import Moments, add_one, moments_of
from jobq_core.memory.claiming import Picking, free_suspended
from jobq_core.memory.rows import Row
from jobq_core.memory.store import Store
from jobq_core.memory.transaction import MemoryTransactions
from jobq_core.states import FINISHED, Ending, JobState, gives_attempt_back, state_after
from jobq_core.storage import (
    GATED,
    REFUSED_LIMIT,
    Claim,
    SettleAndClaimResult,
    Settlement,
    WorkerStorage,
    lease_lost,
)
from jobq_core.timestamps import to_moment

_REASONS: Final = {
    JobState.BLOCKED: "released",
    JobState.DISABLED: "disabled",
    JobState.ABORTED: "aborted",
}
"""The reasons of states that a settlement led to and gave no reason for."""


class SettleAndClaim(MemoryTransactions, WorkerStorage):
    """The main operation of the facet of workers."""

    async def settle_and_claim(
        self, worker: UUID, settlements: Sequence[Settlement] = (), claim: Claim | None = None
    ) -> SettleAndClaimResult:
        with self._transaction() as store:
            settled = _settle(store, settlements)
            alive = store.is_alive(worker)
            if not alive or claim is None:
                return SettleAndClaimResult(settled, [], alive)
            freed = free_suspended(store, claim) if claim.kinds else 0
            picking = Picking(store, worker, claim)
            return SettleAndClaimResult(
                settled,
                picking.claimed,
                picked=len(picking.claimed),
                paused=tuple(picking.paused),
                freed=freed,
                more=picking.more,
            )

    async def complete(self, settlement: Settlement, *, connection: Any) -> None:
        self._check_connection(connection)
        with self._transaction() as store:
            if store.held(settlement.id, settlement.lease) is None:
                raise lease_lost(settlement)
            _settle(store, [settlement])


def _settle(store: Store, settlements: Sequence[Settlement]) -> list[JobState | None]:
    now = store.clock.now()
    # All times are read before the first settlement: one that cannot be read settles none.
    times = [
        (to_moment(settlement.when, now), moments_of(settlement.jobs, now))
        if settlement.when is not None or settlement.jobs
        else (None, ())
        for settlement in settlements
    ]
    return [
        _settle_one(store, settlement, when, children, now)
        for settlement, (when, children) in zip(settlements, times, strict=True)
    ]


def _settle_one(store: Store, settlement: Settlement, when: int | None, children: Moments, now: int) -> JobState | None:
    row = store.held(settlement.id, settlement.lease)
    if row is None:
        before = store.jobs.get(settlement.id)
        return before.settled if before is not None and before.lease == settlement.lease else None
    if settlement.ending is Ending.COMPLETE:
        state = JobState.COMPLETED
        row.result = settlement.result
        if settlement.progress is not None:
            row.set_progress(settlement.progress)
        store.complete(row, now)
    else:
        state = _settle_otherwise(store, row, settlement, when, now)
    row.settled = state
    if children:
        for job, moments in zip(settlement.jobs, children, strict=True):
            add_one(store, job, *moments, now)
    return state


def _settle_otherwise(store: Store, row: Row, settlement: Settlement, when: int | None, now: int) -> JobState:
    """Move a row whose run did not complete, and return its new state."""
    ending, request, gated = settlement.ending, row.request, row.job.gated
    waits = when is not None and when > now
    state = state_after(ending, request=request, waits=waits, gated=gated)
    counts = not gives_attempt_back(ending, request=request)
    _keep(row, settlement, state, counts, now)
    at_gate = state is JobState.BLOCKED and ending is not Ending.SUSPEND and not (ending is Ending.RELEASE and waits)
    if state is JobState.SCHEDULED or state is JobState.BLOCKED:
        row.run_at = None if at_gate or ending is Ending.SUSPEND else when
    reason = GATED if at_gate else _reason(settlement, state)
    store.move(row, state, now, reason, returned=not counts and ending is not Ending.SNOOZE)
    return state


def _keep(row: Row, settlement: Settlement, state: JobState, counts: bool, now: int) -> None:
    """Keep what the run reports."""
    error = settlement.error
    if not counts:
        row.attempt -= 1
    elif error is not None:
        row.note_failure(error, now)
        if state in FINISHED or state is JobState.DISABLED:
            row.error = error
    if settlement.progress is not None:
        row.set_progress(settlement.progress)
    if settlement.declaration is not None and settlement.ending is Ending.SUSPEND:
        row.refused = (*row.refused, settlement.declaration)[-REFUSED_LIMIT:]


def _reason(settlement: Settlement, state: JobState) -> str | None:
    if state is JobState.PENDING:
        return None
    if state is JobState.SCHEDULED:
        return settlement.reason or ("snoozed" if settlement.ending is Ending.SNOOZE else "backoff")
    return settlement.reason or _REASONS.get(state)
