"""`Contexts`: makes the context of a run."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from jobq_core.adding import decode_headers
from jobq_core.records import Progress
from jobq_worker.around.completions import Completions
from jobq_worker.liveness.registration import Registration
from jobq_worker.running.progress import Reporter
from jobq_worker.running.run import Run, RunContext


def make_context(
    run: Run,
    *,
    worker: UUID,
    report: Callable[[Progress], None],
    make_id: Callable[[], UUID],
    complete: Callable[[Any, Any], Awaitable[None]],
) -> RunContext:
    """Return a new context of the run. The event loop's time, in which deadlines are kept, is `time.monotonic`."""
    job = run.job
    left = None if run.due is None else run.due - time.monotonic()
    return RunContext(
        job_id=job.id,
        kind=job.kind,
        queue=job.queue,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        lease=job.lease,
        worker=worker,
        run_id=job.run_id,
        tags=job.tags,
        headers={} if job.meta is None else decode_headers(job.meta),
        deadline=None if left is None else datetime.now(UTC) + timedelta(seconds=left),
        report=report,
        make_id=make_id,
        complete=complete,
    )


class Contexts:
    """Makes the context of a run, in any thread."""

    def __init__(
        self, registration: Registration, reporter: Reporter, make_id: Callable[[], UUID], completions: Completions
    ) -> None:
        self._registration = registration
        self._reporter = reporter
        self._make_id = make_id
        self._completions = completions

    def make(self, run: Run) -> RunContext:
        """Return a new context of the run."""
        return make_context(
            run,
            worker=self._registration.id,
            report=lambda progress: self._reporter.report(run, progress),
            make_id=self._make_id,
            complete=partial(self._completions.complete, run),
        )
