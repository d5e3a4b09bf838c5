"""`jobq workers`: all workers of the storage, and what they can be asked to do from afar."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import click

from jobq_client.commands.output import clean, duration
from jobq_client.commands.running import ExitCode, ListingGroup, Operator, operator_command
from jobq_client.commands.selecting import IdType
from jobq_client.errors import not_found
from jobq_core.errors import JobStateError
from jobq_core.ids import new_id
from jobq_core.records import WorkerRecord
from jobq_core.states import JobState
from jobq_core.storage import WorkerAction, WorkerRequest

LOOK_SECONDS: Final = 0.1
"""Interval at which the answer of a worker is looked for."""


@click.group("workers", cls=ListingGroup)
def workers() -> None:
    """List the workers, drain one, or show the stack of a running job."""


@operator_command("list")
async def list_(operator: Operator) -> ExitCode:
    """List the workers of all machines: their load and their last heartbeat."""
    records, now = await operator.storage.workers(), await operator.storage.now()
    if operator.output.as_json:
        operator.output.json([{"worker": record, "alive": record.is_alive(now)} for record in records])
        return ExitCode.OK
    operator.output.table(
        (
            "name",
            "id",
            "host",
            "pid",
            "alive",
            "heartbeat",
            "busy",
            "slots",
            "queues",
            "done",
            "failed",
            "lag",
            "since",
        ),
        [
            (
                record.info.name,
                record.info.id,
                record.info.host,
                record.info.pid,
                "yes" if record.is_alive(now) else "no",
                f"{duration(now - record.beat_at)} ago",
                record.stats.running,
                record.slots,
                " ".join(record.info.queues),
                record.stats.completed,
                record.stats.failed,
                duration(record.stats.loop_lag),
                duration(now - record.started_at),
            )
            for record in records
        ],
        right=("pid", "busy", "slots", "done", "failed", "lag"),
    )
    return ExitCode.OK


@operator_command("drain", acts=True)
@click.argument("worker", metavar="NAME")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=2.0, show_default=True, help="Seconds to wait for the answer."
)
async def drain(operator: Operator, worker: str, yes: bool, timeout: float) -> ExitCode:
    """Stop a worker as SIGTERM does: it claims no more jobs, finishes the running ones and exits.

    NAME is its name or its id.

    What starts workers, such as a supervisor, may start another one. A request that is not answered in time remains
    for an hour.
    """
    found = await _worker(operator, worker)
    name = clean(found.info.name)
    if not yes:
        click.confirm(f"Drain worker {name} on {clean(found.info.host)}, {found.stats.running} running?", abort=True)
    request = await _ask(operator, found.info.id, WorkerAction.DRAIN, None)
    await operator.record("drain", found.info.id, details={"name": found.info.name})
    answer = await _answer(operator, request, timeout)
    if operator.output.as_json:
        operator.output.json({"worker": found.info.id, "asked": True, "answer": answer})
    else:
        click.echo(f"worker {name} was asked to drain" + ("" if answer is None else f": {clean(answer)}"))
    return ExitCode.OK


@operator_command("stack", acts=True)
@click.argument("job_id", metavar="[ID]", type=IdType(), required=False)
@click.option("--worker", "name", metavar="NAME", help="Show all handlers of this worker, including hung ones.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Seconds to wait for the answer."
)
async def stack(operator: Operator, job_id: UUID | None, name: str | None, timeout: float) -> ExitCode:
    """Show where the handler of a running job is: the stack of its task or thread, without the values of variables."""
    if (job_id is None) is (name is None):
        raise click.UsageError("give the id of a job, or a worker with --worker")
    worker = await _runner(operator, job_id) if name is None else (await _worker(operator, name)).info.id
    request = await _ask(operator, worker, WorkerAction.STACK, job_id)
    await operator.record("stack", job_id or worker)
    answer = await _answer(operator, request, timeout)
    if answer is None:
        click.echo(f"Error: the worker did not answer within {timeout:g} s", err=True)
        return ExitCode.UNMET
    if operator.output.as_json:
        operator.output.json({"job": job_id, "stack": answer} if job_id else {"worker": worker, "stack": answer})
    else:
        click.echo(clean(answer))
    return ExitCode.OK


async def _runner(operator: Operator, job_id: UUID | None) -> UUID:
    """Return the worker that runs a job. Raises JobNotFoundError and JobStateError."""
    assert job_id is not None
    (status,) = await operator.storage.get_status([job_id])
    if status is None:
        raise not_found(job_id)
    if status.state is not JobState.PROCESSING or status.worker is None:
        raise JobStateError(f"job {job_id} is not running: it is {status.state.value}")
    return status.worker


async def _worker(operator: Operator, name: str) -> WorkerRecord:
    records = await operator.storage.workers()
    found = [record for record in records if name in (record.info.name, str(record.info.id))]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(str(record.info.id) for record in found)
        raise JobStateError(f"several workers are called {clean(name)!r}; give the id of one: {ids}")
    known = ", ".join(sorted({record.info.name for record in records})) or "none"
    raise JobStateError(f"there is no worker {clean(name)!r}; registered: {clean(known)}")


async def _ask(operator: Operator, worker: UUID, action: WorkerAction, job: UUID | None) -> UUID:
    asked = WorkerRequest(
        id=new_id(), worker=worker, action=action, job=job, actor=operator.actor, asked_at=datetime.now(UTC)
    )
    if not await operator.storage.ask_worker(asked):
        raise JobStateError(f"worker {worker} is no longer registered")
    return asked.id


async def _answer(operator: Operator, request: UUID, timeout: float) -> str | None:
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    while loop.time() < end:
        (found,) = await operator.storage.get_requests([request])
        if found is None or found.answer is not None:
            return None if found is None else found.answer
        await asyncio.sleep(LOOK_SECONDS)
    return None


for _command in (list_, drain, stack):
    workers.add_command(_command)
