"""Reads the facts of a job, in five calls at most: what its state does not depend on is not read."""

from __future__ import annotations

from uuid import UUID

from jobq_core.states import FINISHED, JobState
from jobq_core.storage import QueueStorage
from jobq_core.why.facts import AHEAD, Facts, Reason
from jobq_core.why.states import explain


async def why(storage: QueueStorage, id: UUID) -> Reason:
    """Return why a job does not run, or how it ended; the code is 'not-found' for a job that does not exist."""
    (record,) = await storage.get([id])
    if record is None:
        return Reason("not-found", f"there is no job {id}: it was never added, was deleted, or its retention is over")
    pending = record.state is JobState.PENDING
    facts = Facts(
        now=await storage.now(),
        workers=() if record.state in FINISHED else await storage.workers(),
        queues=await storage.queues() if pending else (),
        ahead=await storage.jobs_ahead(id, limit=AHEAD) if pending else None,
        audit=() if pending else await storage.audit(target=str(id)),
    )
    return explain(record, facts)
