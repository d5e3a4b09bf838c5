"""What operators do with jobs and queues: one implementation for pages and API, each with its role and its audit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import attrs

from jobq_core.errors import ConfigurationError, InvalidJobError
from jobq_core.ids import new_id
from jobq_core.job import check_name, check_priority
from jobq_core.records import JobSummary
from jobq_core.states import FINISHED, WAITING, JobState, StopRequest
from jobq_core.storage import Action, AuditEntry, Change, QueueStorage
from jobq_server.web.filters import parse_moment
from jobq_server.web.security.identity import Role

EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00Z")


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


def check_value(info: ActionInfo, value: str | None, now: datetime) -> str | None:
    """Return the value of an action as an Operation has it. Raises InvalidJobError."""
    if info.value is None:
        return None
    if not value:
        raise InvalidJobError(f"{info.action.value} needs a {info.value}")
    if info.value == "moment":
        return parse_moment(value, "the moment", now).isoformat()
    try:
        return check_name(value, "queue") if info.value == "queue" else str(check_priority(int(value)))
    except ValueError as error:
        raise InvalidJobError(str(error)) from None


async def act(
    storage: QueueStorage, info: ActionInfo, ids: Sequence[UUID], value: str | None, actor: str
) -> list[Change]:
    """Do something with jobs, and keep in the audit what it changed. value: as `check_value` returns it."""
    changes = await _call(storage, info.action, ids, value)
    details = None if value is None else {info.value: value}
    await audit(storage, actor, info.action.value, [str(one.id) for one in changes if one.changed], details)
    return changes


async def _call(storage: QueueStorage, action: Action, ids: Sequence[UUID], value: str | None) -> list[Change]:
    match action:
        case Action.ABORT:
            return await storage.abort(ids)
        case Action.RETRY:
            return await storage.retry(ids)
        case Action.DISABLE:
            return await storage.disable(ids)
        case Action.ENABLE:
            return await storage.enable(ids)
        case Action.DELETE:
            return await storage.delete(ids)
        case Action.RUN_NOW:
            return await storage.run_now(ids)
        case Action.RESCHEDULE:
            return await storage.reschedule(ids, datetime.fromisoformat(value or ""))
        case Action.MOVE:
            return await storage.move(ids, value or "")
        case Action.PRIORITY:
            return await storage.set_priority(ids, int(value or ""))


async def audit(storage: QueueStorage, actor: str, action: str, targets: Sequence[str], details: Any = None) -> None:
    """Keep in the audit what was done, as far as the storage keeps an audit."""
    entries = [
        AuditEntry(id=new_id(), at=EPOCH, actor=actor, action=action, target=target, details=details)
        for target in targets
    ]
    if not entries:
        return
    try:
        await storage.record_audit(entries)
    except ConfigurationError:  # a storage of a third party may keep none
        return
