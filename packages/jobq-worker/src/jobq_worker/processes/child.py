"""`python -m jobq_worker.processes.child`: a worker process, which its supervisor sends its task on standard input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from jobq_core.commands import main
from jobq_core.errors import JobQueueError
from jobq_core.registry import Registry
from jobq_worker.commands.modules import load_modules
from jobq_worker.commands.worker_command import run_worker
from jobq_worker.logs import configure_logging
from jobq_worker.metrics_port import port_of
from jobq_worker.processes.link import Link
from jobq_worker.worker import JobQueueWorker


def run() -> None:
    """Run the command, or the worker of a server, that the supervisor asks for."""
    run_task(run_pool_worker)


def run_task(run_worker_of_server: Callable[..., None]) -> None:
    """Do what the supervisor asks for. run_worker_of_server: is called with the link and the task of a server."""
    link = Link.take_over()
    if "arguments" in link.task:
        main(args=link.task["arguments"], prog_name="jobq", obj=link)
        return
    try:
        run_worker_of_server(link, **link.task)
    except (click.ClickException, JobQueueError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


def run_pool_worker(
    link: Link,
    *,
    path: Sequence[str],
    modules: Sequence[str],
    kinds: Sequence[str],
    storage: str,
    options: dict[str, Any],
    level: str,
    make: Callable[..., JobQueueWorker] = JobQueueWorker,
) -> None:
    """Run one worker of a server with processes: the jobs of these kinds that the modules declare.

    path: the import path of the server's program. options: keywords of `make`. level: of the log.
    """
    sys.path[:] = path
    options["name"] = f"{options['name']}-{link.number}"
    options["metrics_port"] = port_of(options["metrics_port"], link.number)
    configure_logging(level, "text", process=options["name"], keep=options["keep_logs"])
    declared = Registry(load_modules(modules))
    jobs = [definition.job_type for definition in declared if definition.kind in set(kinds)]
    run_worker(make(storage, jobs=jobs, **options), link)


if __name__ == "__main__":
    run()
