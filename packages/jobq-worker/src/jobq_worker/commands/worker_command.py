"""`jobq worker`: run the jobs of modules until a signal; and `serve`, which `jobq server` shares with it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click

from jobq_core.configuration import ARGUMENTS, ConfiguredCommand
from jobq_core.events import WorkerStarted
from jobq_worker.commands.command_options import CONFIGURATION_HELP, OTHER_KEYS, serving_options
from jobq_worker.commands.modules import load_modules
from jobq_worker.commands.named_worker import given_parameters, load_worker, names_worker
from jobq_worker.logs import configure_logging
from jobq_worker.metrics_port import port_of
from jobq_worker.processes.exits import ExitCode, end_process_soon
from jobq_worker.processes.link import Link
from jobq_worker.processes.retirement import Retired
from jobq_worker.processes.service_manager import ServiceManager
from jobq_worker.processes.source_watch import SourceWatch, folders_of
from jobq_worker.processes.supervisor import Supervisor
from jobq_worker.processes.supervisor_loop import ChildProcess, SupervisorLoop
from jobq_worker.worker import JobQueueWorker

logger = logging.getLogger("jobq.worker")

MAX_LISTED: Final = 20
"""Maximum number of jobs that the log line at the start names."""


def serve(
    make: type[JobQueueWorker],
    modules: Sequence[str],
    *,
    discover: bool,
    processes: int | None,
    reload: bool,
    log_level: str,
    log_format: str,
    scale: Callable[[Supervisor], Callable[[], None]] | None = None,
    **options: Any,
) -> None:
    """Make a worker or a server for the jobs of these modules, and run it until a signal. Logs to standard error.

    With processes or reload, child processes do so instead, and this process supervises them. scale: returns what
    changes the number of a supervisor's children, and is called after each of its steps.
    """
    context = click.get_current_context()
    is_named = names_worker(modules)
    if options["storage"] is None and not is_named:
        raise click.MissingParameter(ctx=context, param=next(p for p in context.command.params if p.name == "storage"))
    link = context.find_object(Link)
    if link is None and (processes is not None or reload):
        configure_logging(log_level, log_format)
        raise SystemExit(
            supervise_children(processes or 1, reload=reload, modules=modules, options=options, scale=scale)
        )
    suffix = "" if link is None else f"-{link.number}"
    if is_named:
        served = load_worker(modules[0], make)
        if link is not None and served.has_processes:
            raise click.UsageError(
                f"{modules[0]} is made with processes=…, so it supervises worker processes itself; "
                "remove that, or run it without --processes and --reload"
            )
        given = given_parameters(context, options)
        served.configure(**(given | {"name": f"{given.get('name', served.name)}{suffix}"}))
        kept = served.options.keep_logs
        configure_logging(log_level, log_format, process=served.name if suffix else None, keep=kept)
    else:
        options["name"] = f"{options['name'] or socket.gethostname()}{suffix}"
        kept = options["keep_logs"]
        configure_logging(log_level, log_format, process=options["name"] if suffix else None, keep=kept)
        served = make(jobs=load_modules(modules, discover=discover), **options)
    if link is not None:
        served.configure(metrics_port=port_of(served.options.metrics_port, link.number))
    warn_of_memory(options["storage"])
    logger.info("%s", describe_jobs([definition.kind for definition in served.handlers.definitions()], modules))
    run_worker(served, link)


def run_worker(served: JobQueueWorker, link: Link | None = None) -> None:
    """Run a worker until a signal, and end the process if handlers go on. link: that of a supervisor's child."""
    if link is not None:
        served.once(WorkerStarted, lambda _: link.serve(served.options.lost_after, served.options.stop_timeout))
    with asyncio.Runner() as runner:
        try:
            runner.run(served.run())
        finally:
            if link is not None:
                link.end(done=served.retired is Retired.EMPTY)
        # The event loop closes when the threads of `asyncio.to_thread` have ended, which nothing stops.
        cancel = end_process_soon(ExitCode.RUNS_LEFT)
    cancel()


def supervise_children(
    count: int,
    *,
    reload: bool,
    modules: Sequence[str],
    options: Mapping[str, Any],
    scale: Callable[[Supervisor], Callable[[], None]] | None,
) -> int:
    """Run the present command in so many child processes until a signal; return the exit code."""
    if (options["storage"] or "").lower().startswith("memory:"):
        raise click.UsageError(
            "memory:// is the memory of one process and cannot be shared; "
            "use sqlite:///jobs.db or postgresql://host/database"
        )
    context = click.get_current_context()
    task = {"arguments": [str(context.info_name), *context.meta[ARGUMENTS]]}
    supervisor = Supervisor(
        lambda number: ChildProcess(number, task),
        count,
        lost_after=options["lost_after"],
        stop_timeout=options["stop_timeout"],
        reloads=reload,
    )
    folders = folders_of([name.partition(":")[0] for name in modules]) if reload else []
    changed = SourceWatch(folders).changed if reload else lambda: False
    manager = ServiceManager.take_over()
    scale_step = None if scale is None else scale(supervisor)

    def stepped() -> None:
        _tell_manager(manager, supervisor)
        if scale_step is not None:
            scale_step()

    return SupervisorLoop(supervisor, changed, stepped).run_until_signal()


def _tell_manager(manager: ServiceManager, supervisor: Supervisor) -> None:
    """Tell the service manager, at each step of the supervisor, how it is."""
    if supervisor.serves:
        manager.ready()
    if supervisor.stopping:
        manager.stopping()
    manager.ping()


@click.command(cls=ConfiguredCommand, other_keys=OTHER_KEYS, epilog=CONFIGURATION_HELP)
@serving_options()
def worker(modules: tuple[str, ...], **options: Any) -> None:
    """Run the jobs that MODULEs declare, until SIGTERM or SIGINT (Ctrl-C).

    A MODULE is named as for import, such as shop.jobs; the working directory is searched too.

    MODULE:WORKER, such as shop.work:worker, runs the JobQueueWorker of that name in the module, with its jobs,
    middleware, lifespans, resources, limiter and retention. The options given here replace those that it was made with.
    """
    serve(JobQueueWorker, modules, **options)


def describe_jobs(kinds: Sequence[str], modules: Sequence[str]) -> str:
    """Return a line that names the jobs found in modules, MAX_LISTED at most."""
    jobs = f"{len(kinds)} job{'s' if len(kinds) != 1 else ''}"
    more = f" and {len(kinds) - MAX_LISTED} more" if len(kinds) > MAX_LISTED else ""
    return f"found {jobs} in {', '.join(modules)}: {', '.join(sorted(kinds)[:MAX_LISTED])}{more}"


def warn_of_memory(url: str | None) -> None:
    """Warn of a memory:// URL: no other process can add jobs to the memory of a worker."""
    if url is not None and url.lower().startswith("memory:"):
        click.echo(
            "Warning: memory:// is the memory of this process, where no other process can add jobs; "
            "use sqlite:///jobs.db or postgresql://host/database",
            err=True,
        )
