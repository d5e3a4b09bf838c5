"""`jobq health`: whether a client could work, a worker lives, or an endpoint answers; for probes and for people."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any, Final

import click
import msgspec

from jobq_client.commands.output import Output, clean_line, duration
from jobq_client.commands.running import ExitCode
from jobq_core.commands import optional_storage_option
from jobq_core.configuration import ConfiguredCommand
from jobq_core.errors import JobQueueError
from jobq_core.health import STORAGE_SECONDS, Check, HealthReport, examine_storage
from jobq_core.storage import QueueStorage
from jobq_core.urls import open_storage

MAX_ANSWER: Final = 1 << 20
"""The number of bytes that are read of an endpoint's answer."""


@click.command("health", cls=ConfiguredCommand, unconfigured=frozenset({"worker", "url", "timeout", "as_json"}))
@optional_storage_option
@click.option("--worker", metavar="NAME", help="Check that a worker of this name, or id, has a fresh heartbeat too.")
@click.option("--url", metavar="URL", help="Ask this endpoint instead, such as http://127.0.0.1:9090/readyz.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=STORAGE_SECONDS,
    show_default=True,
    help="Time in which the storage or the endpoint must respond.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def health(
    context: click.Context, storage: str | None, worker: str | None, url: str | None, timeout: float, as_json: bool
) -> None:
    """Check that the storage responds and that its tables fit this version. Exits with 4 if not.

    Creates nothing. Use it as a probe for the container of a client.
    """
    if url is not None:
        if worker is not None:
            raise click.UsageError("--url asks an endpoint, and --worker the storage: use one of them")
        report = ask_endpoint(url, timeout)
    elif storage is None:
        raise click.MissingParameter(ctx=context, param=next(p for p in context.command.params if p.name == "storage"))
    else:
        report = asyncio.run(_examine(open_storage(storage), worker, timeout))
    output = Output(as_json)
    if as_json:
        output.json(msgspec.json.decode(report.to_json()))
    else:
        for name, check in report.checks.items():
            click.echo(f"{'ok' if check.ok else 'FAIL':<5} {clean_line(name)}: {clean_line(check.detail)}")
    raise SystemExit(ExitCode.OK if report.ok else ExitCode.UNMET)


async def _examine(storage: QueueStorage, worker: str | None, timeout: float) -> HealthReport:
    storage.keep_schema()
    try:
        report = await examine_storage(storage, timeout)
        if worker is not None and report.ok:
            report = HealthReport({**report.checks, "worker": await _check_worker(storage, worker, timeout)})
        return report
    finally:
        await storage.close()


async def _check_worker(storage: QueueStorage, name: str, timeout: float) -> Check:
    """Return whether a worker of this name or id is registered and its heartbeat has not expired."""
    try:
        async with asyncio.timeout(timeout):
            now, records = await storage.now(), await storage.workers()
    except (JobQueueError, TimeoutError) as error:
        return Check(False, f"the workers could not be read: {type(error).__name__}: {error}")
    found = [record for record in records if name in (record.info.name, str(record.info.id))]
    if not found:
        return Check(False, f"no worker {name!r} is registered")
    last = max(found, key=lambda record: record.expires_at)
    beat = (
        f"worker {name!r} on {last.info.host}, pid {last.info.pid}: last heartbeat {duration(now - last.beat_at)} ago"
    )
    return Check(last.is_alive(now), beat if last.is_alive(now) else f"{beat}, which is too long ago")


def ask_endpoint(url: str, timeout: float) -> HealthReport:
    """Return what /livez or /readyz of a worker or server answers, or why it does not."""
    if not url.startswith(("http://", "https://")):
        raise click.UsageError("--url must begin with http:// or https://")
    # Not through a proxy, which may not reach what this machine does.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with _open(opener, url, timeout) as answer:
            return _read_answer(answer.status, answer.read(MAX_ANSWER))
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        return HealthReport({"endpoint": Check(False, f"no answer: {reason}")})


def _open(opener: urllib.request.OpenerDirector, url: str, timeout: float) -> Any:
    """Return the answer, whatever its status is."""
    try:
        return opener.open(url, timeout=timeout)
    except urllib.error.HTTPError as error:
        return error


def _read_answer(status: int, body: bytes) -> HealthReport:
    endpoint = {"endpoint": Check(status == 200, f"answered with status {status}")}
    try:
        found: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
        checks = msgspec.convert(found.get("checks", {}), dict[str, _PublicCheck])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return HealthReport(endpoint)
    return HealthReport({**endpoint, **{name: Check(each.ok, each.detail) for name, each in checks.items()}})


class _PublicCheck(msgspec.Struct):
    """A check of an endpoint; one that is public gives no details."""

    ok: bool
    detail: str = ""
