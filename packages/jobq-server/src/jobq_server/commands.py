"""`jobq server`: run a pool of workers until a signal."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

import attrs
import click

from jobq_core.configuration import ConfiguredCommand, variable
from jobq_core.errors import ConfigurationError
from jobq_server.autoscaling.options import Autoscaler
from jobq_server.autoscaling.process_scaling import ProcessScaling
from jobq_server.server import JobQueueServer
from jobq_server.web_options import LOCAL, WebOptions
from jobq_worker.commands.command_options import CONFIGURATION_HELP, OTHER_KEYS, field_option, serving_options
from jobq_worker.commands.named_worker import is_given
from jobq_worker.commands.worker_command import serve
from jobq_worker.options import COMMAND_LINE, CommandLine
from jobq_worker.processes.link import Link
from jobq_worker.processes.supervisor import Supervisor

C = TypeVar("C", bound=Callable[..., Any])

WORKERS: Final = CommandLine(
    flag="--workers", help="Number of workers; each runs one job at a time.", metavar="N", type=int
)

SCALING: Final[Mapping[str, str]] = {
    "min_workers": "min",
    "max_workers": "max",
    "min_processes": "min_processes",
    "max_processes": "max_processes",
    "target_wait": "target_wait",
}
"""The command's options of an Autoscaler, and their fields."""


def _scaling_options(command: C) -> C:
    """Give a command the options of an Autoscaler."""
    fields = attrs.fields_dict(Autoscaler)
    for word, name in reversed(list(SCALING.items())):
        field = fields[name]
        command = field_option(word, field, field.metadata[COMMAND_LINE])(command)
    return command


def _web_options(command: C) -> C:
    """Give a command the options of the web. Their keys begin with web_: Kubernetes sets JOBQ_PORT by itself."""
    options = (
        click.option(
            "--port",
            "web_port",
            metavar="N",
            type=click.IntRange(0, 65_535),
            help="Serve the dashboard and the HTTP API on this port.  [default: none]",
        ),
        click.option(
            "--host",
            "web_host",
            metavar="ADDRESS",
            default=LOCAL,
            show_default=True,
            help="Address to serve them on. An address that other machines can reach needs --web-credentials.",
        ),
        click.option(
            "--web-credentials",
            metavar="FILE",
            type=click.Path(dir_okay=False),
            help="TOML file with the users, passwords and tokens that may log in.",
        ),
        click.option(
            "--web-token",
            metavar="TOKEN",
            help="Token with the role admin. Set it as JOBQ_WEB_TOKEN, since other users can see command lines.",
        ),
        click.option(
            "--allow-host",
            "web_hosts",
            metavar="NAME",
            multiple=True,
            help="Host name by which browsers reach the server; may be given several times.",
        ),
        click.option(
            "--hide-payloads",
            "web_hide_payloads",
            metavar="ROLE",
            multiple=True,
            type=click.Choice(["view", "operate", "admin"]),
            help="Hide arguments, results and error messages from this role; may be given several times.",
        ),
        click.option(
            "--root-path",
            "web_root_path",
            metavar="PATH",
            default="",
            help="Part of the path that a proxy in front of the server removes.  [default: none]",
        ),
        click.option(
            "--insecure-no-auth",
            "web_insecure_no_auth",
            is_flag=True,
            help="Serve without authentication: everyone who reaches the address may do everything.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(cls=ConfiguredCommand, other_keys=OTHER_KEYS, epilog=CONFIGURATION_HELP)
@serving_options(renamed={"concurrency": ("worker_count", WORKERS)})
@_scaling_options
@_web_options
@click.pass_context
def server(context: click.Context, /, modules: tuple[str, ...], **options: Any) -> None:
    """Run a pool of workers for the jobs that MODULEs declare, until SIGTERM or SIGINT (Ctrl-C).

    A MODULE is named as for import, such as shop.jobs; the working directory is searched too.

    MODULE:SERVER, such as shop.work:server, runs the JobQueueServer of that name in the module, with its jobs,
    middleware, lifespans, resources, limiter and retention. The options given here replace those that it was made with.
    """
    autoscaler = _autoscaler(context, {word: options.pop(word) for word in SCALING})
    web = _web(context, {word: options.pop(word) for word in list(options) if word.startswith("web_")})
    link, scale = context.find_object(Link), None
    if autoscaler is not None and autoscaler.scales_processes and link is None:
        options["processes"] = autoscaler.of_processes().clamp(options["processes"] or 1)
        scale = partial(_scale, autoscaler, options["name"] or socket.gethostname())
    elif autoscaler is not None and link is not None:
        autoscaler = autoscaler.in_process(link.report)
    serve(JobQueueServer, modules, autoscale=autoscaler, web=web, scale=scale, **options)


def _scale(autoscaler: Autoscaler, name: str, supervisor: Supervisor) -> Callable[[], None]:
    return ProcessScaling(autoscaler, supervisor, name).step


def _web(context: click.Context, options: Mapping[str, Any]) -> WebOptions | None:
    """Return the WebOptions of the command line; None without --port, and in the other processes than the first."""
    if options["web_port"] is None:
        for parameter in context.command.params:
            if parameter.name in options and is_given(context, str(parameter.name)):
                raise click.UsageError(f"{parameter.opts[0]} needs --port")
        return None
    for name in ("web_token", "web_credentials"):
        if options[name] == "" or (options[name] is None and os.environ.get(variable(name)) == ""):
            raise click.UsageError(f"{variable(name)} is empty, and without it everyone may do everything: unset it")
    link = context.find_object(Link)
    try:
        web = WebOptions(
            port=options["web_port"],
            host=options["web_host"],
            auth=_auth(options["web_credentials"], options["web_token"]),
            hide_payloads=options["web_hide_payloads"],
            allowed_hosts=options["web_hosts"] or None,
            root_path=options["web_root_path"],
            insecure_no_auth=options["web_insecure_no_auth"],
        )
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    return web if link is None or link.number == 1 else None


def _auth(file: str | None, token: str | None) -> Any:
    """Return the credentials of the command line; None without any. Raises ConfigurationError."""
    if file is None and not token:
        return None
    try:
        from jobq_server.web.security.credentials import Credentials
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the dashboard and the HTTP API need {error.name}, which is not installed: pip install 'jobq-server[web]'"
        ) from error
    tokens = {token: ("token", "admin")} if token else None
    return Credentials(tokens=tokens) if file is None else Credentials.from_file(file, tokens=tokens)


def _autoscaler(context: click.Context, options: Mapping[str, Any]) -> Autoscaler | None:
    """Return the Autoscaler of the command line; None without --max-workers. Raises UsageError."""
    if options["max_workers"] is None:
        for word in options:
            if is_given(context, word):
                raise click.UsageError(f"--{word.replace('_', '-')} needs --max-workers")
        return None
    try:
        return Autoscaler(**{SCALING[word]: value for word, value in options.items()})
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
