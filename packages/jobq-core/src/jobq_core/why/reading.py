"""Reads the facts of a job, in six calls at most."""

from __future__ import annotations

from uuid import UUID

from jobq_core.states import JobState
from jobq_core.storage import QueueStorage
from jobq_core.why.facts import AHEAD, Facts, Reason
from jobq_core.why.states import explain


async def why(storage: QueueStorage, id: UUID) -> Reason:
    """Return why a job does not run, or how it ended; the code is 'not-found' for a job that does not exist."""
    (record,) = await storage.get([id])
    if record is None:
        return Reason("not-found", f"there is no job {id}: it was never added, was deleted, or its retention is over")
    facts = Facts(
        now=await storage.now(),
        workers=await storage.workers(),
        queues=await storage.queues(),
        ahead=await storage.jobs_ahead(id, limit=AHEAD) if record.state is JobState.PENDING else None,
        audit=await storage.audit(target=str(id)),
    )
    return explain(record, facts)
