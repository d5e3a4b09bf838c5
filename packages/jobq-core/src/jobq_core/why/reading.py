"""Reads the facts of a job, in five calls at most: what its state does not depend on is not read."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from jobq_core.job_audit import audit_of
from jobq_core.states import FINISHED, JobState
from jobq_core.storage import QueueStorage
from jobq_core.why.facts import AHEAD, Facts, Reason
from jobq_core.why.states import explain

_BY_OPERATORS: Final = frozenset({JobState.SCHEDULED, JobState.DISABLED, JobState.ABORTED})
"""The states that an operator may have brought a job to, and that say so."""


async def why(storage: QueueStorage, id: UUID) -> Reason:
    """Return why a job does not run, or how it ended; the code is 'not-found' for a job that does not exist."""
    (record,) = await storage.get([id])
    if record is None:
        return Reason("not-found", f"there is no job {id}: it was never added, was deleted, or its retention is over")
    pending = record.state is JobState.PENDING
    by_operators = record.state in _BY_OPERATORS or record.stop_request is not None
    facts = Facts(
        now=await storage.now(),
        workers=() if record.state in FINISHED else await storage.workers(),
        queues=await storage.queues() if pending else (),
        ahead=await storage.jobs_ahead(id, limit=AHEAD) if pending else None,
        audit=await audit_of(storage, record) if by_operators else (),
    )
    return explain(record, facts)
