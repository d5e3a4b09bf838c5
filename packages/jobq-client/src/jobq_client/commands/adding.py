"""`jobq add` and `jobq wait`: add a job of a kind, and wait for one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click

from jobq_client.client import JobQueueClient
from jobq_client.commands.output import clean
from jobq_client.commands.running import ExitCode, Operator, operator_command
from jobq_client.commands.selecting import IdType, MomentType
from jobq_client.results import is_over
from jobq_core.adding import AddOptions, new_job_of_kind
from jobq_core.errors import JobNotFoundError, StorageError, WaitTimeoutError
from jobq_core.ids import new_id
from jobq_core.job import MAX_ATTEMPTS, MAX_PRIORITY, MIN_PRIORITY


@operator_command("add", acts=True)
@click.argument("kind")
@click.option(
    "--arguments", metavar="JSON", default="{}", help="Arguments of the job, as a JSON object.  [default: {}]"
)
@click.option("--queue", metavar="NAME", default="default", show_default=True, help="Queue to add the job to.")
@click.option(
    "--priority",
    metavar="N",
    type=click.IntRange(MIN_PRIORITY, MAX_PRIORITY),
    help="-100 to 100, higher first.  [default: 0]",
)
@click.option(
    "--run-at", metavar="TIME", type=MomentType(ahead=True), help="Start at this time: 30m, 2026-12-01T08:00."
)
@click.option("--deadline", metavar="TIME", type=MomentType(ahead=True), help="Do not start after this time.")
@click.option("--timeout", metavar="SECONDS", type=float, help="Maximum duration of one run.  [default: no limit]")
@click.option(
    "--max-attempts", metavar="N", type=click.IntRange(1, MAX_ATTEMPTS), help="Maximum number of runs.  [default: 10]"
)
@click.option("--unique", metavar="KEY", help="Add the job only if no unfinished job of the queue has this key.")
@click.option("--run", "run_id", metavar="ID", help="Name shared by jobs that belong together.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="Tag to find the job by; may be given several times.")
async def add(operator: Operator, kind: str, arguments: str, queue: str, **options: Any) -> ExitCode:
    """Add a job of KIND and print its id.

    The declaration of the kind is the worker's: a worker checks the arguments when it claims the job, and options that
    the kind declares, such as its queue, are not known here.
    """
    given: AddOptions = {name: value for name, value in options.items() if value not in (None, ())}  # type: ignore[assignment]
    new = new_job_of_kind(new_id(), kind, arguments, queue, given)
    (added,) = await operator.storage.add([new])
    await operator.record("add", added.id, details={"kind": kind, "queue": queue, "created": added.created})
    if operator.output.as_json:
        operator.output.json({"id": added.id, "created": added.created})
    else:
        click.echo(added.id)
    if not added.created:
        click.echo("Not added: an unfinished job has this unique key", err=True)
        return ExitCode.UNMET
    return ExitCode.OK


@operator_command("wait")
@click.argument("job_id", metavar="ID", type=IdType())
@click.option("--timeout", metavar="SECONDS", type=click.FloatRange(min=0), help="Wait this long.  [default: no limit]")
async def wait(operator: Operator, job_id: UUID, timeout: float | None) -> ExitCode:
    """Wait until a job has ended, and print its result as JSON.

    Exits with 4 if the job fails, or is aborted or disabled, or if the timeout passes.
    """
    async with JobQueueClient(operator.storage) as client:
        try:
            result = await client.wait_for(job_id, timeout=timeout)
        except (JobNotFoundError, StorageError):
            raise
        except WaitTimeoutError as error:
            click.echo(f"Error: {clean(error)}", err=True)
            return ExitCode.UNMET
        except Exception:  # the job's own, of any type
            (status,) = await operator.storage.get_status([job_id])
            if status is None or not is_over(status):
                raise
            cause = f": {status.error.type}: {status.error.message}" if status.error else ""
            click.echo(f"Error: job {job_id} is {status.state.value}{clean(cause)}", err=True)
            return ExitCode.UNMET
    operator.output.json(result)
    return ExitCode.OK
