"""`python -m jobq_server.child`: a process of a server with processes and an Autoscaler, which scales its workers."""

from __future__ import annotations

from functools import partial
from typing import Any

from jobq_server.autoscaling.options import Autoscaler
from jobq_server.server import JobQueueServer
from jobq_worker.processes.child import run_pool_worker, run_task
from jobq_worker.processes.link import Link


def _run(link: Link, *, autoscale: dict[str, Any], options: dict[str, Any], **task: Any) -> None:
    options["worker_count"] = options.pop("concurrency")
    make = partial(JobQueueServer, autoscale=Autoscaler(**autoscale).in_process(link.report))
    run_pool_worker(link, make=make, options=options, **task)


if __name__ == "__main__":
    run_task(_run)
