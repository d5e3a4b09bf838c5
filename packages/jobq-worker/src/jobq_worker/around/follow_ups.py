"""Jobs that follow the end of others: those that a kind declares with `on_success` and `on_failure`.

A completion stores its follow-up itself. A failure has many causes: a run that ends, a lost worker, a deadline that
passes. The storage keeps them all, and the maintenance adds what follows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from uuid import UUID

import msgspec

from jobq_core.errors import InvalidJobError
from jobq_core.follow_ups import follow_failure
from jobq_core.job import JobDefinition
from jobq_core.states import Ending
from jobq_core.storage import EndedJob, NewJob, Settlement
from jobq_worker.running.run import AddFollowUp, Run, log_fields

logger = logging.getLogger("jobq.worker")


def follow_up_of(definition: JobDefinition, make_id: Callable[[], UUID]) -> AddFollowUp | None:
    """Return what adds `on_success` to a settlement; None for a kind without one."""
    following = definition.on_success
    if following is None:
        return None

    def add(run: Run, settlement: Settlement) -> None:
        if settlement.ending is not Ending.COMPLETE:
            return
        job = run.job
        try:
            new = following.of_success(make_id(), job, settlement.result or b"null")
        except InvalidJobError:
            logger.exception(
                "job %s (%s) has ended, and its follow-up %s cannot be added",
                job.id,
                job.kind,
                following.kind,
                extra=log_fields(job),
            )
        else:
            settlement.jobs = (*settlement.jobs, new)

    return add


def follow_failures(ended: Sequence[EndedJob], make_id: Callable[[], UUID]) -> list[NewJob]:
    """Return the jobs that follow the failed ones among these; for `KeeperStorage.resolve`."""
    jobs: list[NewJob] = []
    for end in ended:
        if end.failed is None:
            continue
        try:
            jobs.append(follow_failure(make_id(), end.failed))
        except (msgspec.DecodeError, UnicodeError):
            logger.exception("job %s (%s) failed, and its stored follow-up cannot be read", end.id, end.failed.kind)
    return jobs
