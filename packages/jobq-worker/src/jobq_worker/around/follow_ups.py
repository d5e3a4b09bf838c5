"""The follow-up of a run: the job that its kind declares with `on_success` or `on_failure`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from uuid import UUID

from jobq_core.errors import InvalidJobError
from jobq_core.job import JobDefinition
from jobq_core.states import Ending
from jobq_core.storage import Settlement
from jobq_worker.running.run import AddFollowUp, Run, log_fields

logger = logging.getLogger("jobq.worker")


def follow_up_of(definition: JobDefinition, make_id: Callable[[], UUID]) -> AddFollowUp | None:
    """Return what adds the follow-up to a settlement; None for a kind without one."""
    success, failure = definition.on_success, definition.on_failure
    if success is None and failure is None:
        return None

    def add(run: Run, settlement: Settlement) -> None:
        following = {Ending.COMPLETE: success, Ending.FAIL: failure}.get(settlement.ending)
        if following is None:
            return
        job = run.job
        try:
            new = following.make(make_id(), job, result=settlement.result, error=settlement.error)
        except InvalidJobError:
            logger.exception(
                "job %s (%s) has ended, and its follow-up %s cannot be added",
                job.id,
                job.kind,
                following.definition.kind,
                extra=log_fields(job),
            )
        else:
            settlement.jobs = (*settlement.jobs, new)

    return add
