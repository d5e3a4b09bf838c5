"""What operators do with jobs and queues: one implementation for pages and API, each with its role and its audit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import attrs

from jobq_core.errors import ConfigurationError, InvalidJobError, JobNotFoundError
from jobq_core.ids import new_id
from jobq_core.job import check_name
from jobq_core.operating import audit_entries, known_queues
from jobq_core.operations import apply, check_value
from jobq_core.records import JobSummary
from jobq_core.states import FINISHED, WAITING, JobState, StopRequest
from jobq_core.storage import (
    Action,
    Change,
    QueueOptions,
    QueueStorage,
    Retention,
    WorkerAction,
    WorkerRequest,
)
from jobq_server.web.filters import parse_moment
from jobq_server.web.security.identity import Role

logger = logging.getLogger("jobq.web")


@attrs.frozen(kw_only=True)
class ActionInfo:
    """How an action is shown, and who may do it.

    states: of the jobs that it changes. destroys: whether it is asked for twice. value: what else it needs: a 'moment',
    a 'queue', a 'priority'.
    """

    action: Action
    label: str
    done: str
    role: Role
    states: frozenset[JobState]
    destroys: bool = False
    value: str | None = None


S = JobState
UNFINISHED: Final = frozenset(JobState) - FINISHED
ACTIONS: Final = {
    info.action: info
    for info in (
        ActionInfo(
            action=Action.RETRY,
            label="Retry",
            done="retried",
            role=Role.OPERATE,
            states=frozenset({S.FAILED, S.ABORTED}),
        ),
        ActionInfo(
            action=Action.RUN_NOW,
            label="Run now",
            done="made pending",
            role=Role.OPERATE,
            states=frozenset({S.SCHEDULED, S.BLOCKED}),
        ),
        ActionInfo(
            action=Action.ABORT, label="Abort", done="aborted", role=Role.OPERATE, states=UNFINISHED, destroys=True
        ),
        ActionInfo(
            action=Action.DISABLE,
            label="Disable",
            done="disabled",
            role=Role.OPERATE,
            states=UNFINISHED - {S.DISABLED},
        ),
        ActionInfo(
            action=Action.ENABLE,
            label="Enable",
            done="enabled",
            role=Role.OPERATE,
            states=frozenset({S.DISABLED, S.PROCESSING}),
        ),
        ActionInfo(
            action=Action.RESCHEDULE,
            label="Reschedule",
            done="rescheduled",
            role=Role.OPERATE,
            states=frozenset({S.SCHEDULED, S.PENDING, S.DISABLED}),
            value="moment",
        ),
        ActionInfo(
            action=Action.MOVE,
            label="Move",
            done="moved",
            role=Role.OPERATE,
            states=WAITING | {S.PENDING},
            value="queue",
        ),
        ActionInfo(
            action=Action.PRIORITY,
            label="Set priority",
            done="given another priority",
            role=Role.OPERATE,
            states=WAITING | {S.PENDING},
            value="priority",
        ),
        ActionInfo(
            action=Action.DELETE,
            label="Delete",
            done="deleted",
            role=Role.ADMIN,
            states=frozenset(JobState),
            destroys=True,
        ),
    )
}


def possible_actions(job: JobSummary) -> list[ActionInfo]:
    """Return the actions that would change a job."""
    return [info for info in ACTIONS.values() if job.state in info.states and _fits(info.action, job)]


def _fits(action: Action, job: JobSummary) -> bool:
    if action is Action.ENABLE and job.state is S.PROCESSING:
        return job.stop_request is StopRequest.DISABLE
    if action is Action.RUN_NOW and job.state is S.BLOCKED:
        return job.run_at is not None
    return True


def parse_action(name: str) -> ActionInfo:
    """Return an action by its name. Raises InvalidJobError for an unknown one."""
    try:
        return ACTIONS[Action(name)]
    except ValueError:
        raise InvalidJobError(f"unknown action {name[:80]!r}; expected one of {', '.join(Action)}") from None


def parse_value(info: ActionInfo, value: str | None, now: datetime) -> str | None:
    """Return the value of an action as an Operation has it. Raises InvalidJobError, or ConfigurationError.

    value: text of a form. A moment may also be a time from now, such as 30m.
    """
    if info.value is None:
        return None
    if not value:
        raise InvalidJobError(f"{info.label.lower()} needs a {info.value}")
    if info.value == "moment":
        value = parse_moment(value, "the moment", now, ahead=True).isoformat()
    return check_value(info.action, value)


async def act(
    storage: QueueStorage, info: ActionInfo, ids: Sequence[UUID], value: str | None, actor: str
) -> list[Change]:
    """Do something with jobs, and keep in the audit what it changed. value: as `parse_value` returns it."""
    changes = await apply(storage, info.action, value, ids)
    await audit(storage, actor, info.action.value, *(change.id for change in changes if change.changed), details=value)
    return changes


async def audit(storage: QueueStorage, actor: str, action: str, *targets: object, details: Any = None) -> None:
    """Keep in the audit what was done to each target; log it on a storage that keeps no audit."""
    try:
        await storage.record_audit(audit_entries(actor, action, targets, details))
    except ConfigurationError as error:  # what it says of took effect: it must not look as if it had not
        logger.warning("%s by %s: %s", action, actor, error)


async def set_paused(storage: QueueStorage, queue: str, actor: str, *, paused: bool) -> None:
    """Pause or resume a queue. Raises JobNotFoundError for a queue that nothing has."""
    name = check_name(queue, "queue")
    await _check_queue(storage, name)
    await storage.set_queue(name, QueueOptions(paused=paused, actor=actor))
    await audit(storage, actor, "pause" if paused else "resume", name)


async def set_retention(storage: QueueStorage, queue: str, retention: Retention, actor: str) -> None:
    """Set how long a queue keeps its finished jobs."""
    name = check_name(queue, "queue")
    await storage.set_queue(name, QueueOptions(retention=retention))
    await audit(storage, actor, "retention", name, details=attrs.asdict(retention))


async def _check_queue(storage: QueueStorage, name: str) -> None:
    if name not in await known_queues(storage):
        raise JobNotFoundError(f"no queue {name!r}: it has no jobs, no options and no worker")


async def ask(storage: QueueStorage, worker: UUID, action: WorkerAction, job: UUID | None, actor: str) -> UUID:
    """Ask a worker to drain, or for a stack; return the id of the request. Raises JobNotFoundError."""
    asked = WorkerRequest(id=new_id(), worker=worker, action=action, job=job, actor=actor, asked_at=datetime.now(UTC))
    if not await storage.ask_worker(asked):
        raise JobNotFoundError(f"no worker {worker}: it has stopped, or was lost")
    await audit(storage, actor, action.value, worker if job is None else job)
    return asked.id
