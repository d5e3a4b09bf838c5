"""Adding a job by hand, also as an edited copy of another one."""

from __future__ import annotations

from typing import Any, Final

from starlette.datastructures import FormData
from starlette.responses import Response

from jobq_core.errors import ConfigurationError, InvalidJobError, JobNotFoundError, UnfitArgumentsError
from jobq_core.job import MAX_ATTEMPTS
from jobq_core.records import JobRecord
from jobq_core.states import FINISHED
from jobq_core.storage import Action
from jobq_server.web.actions import ACTIONS, act
from jobq_server.web.adding import add_job, options_of, with_secrets
from jobq_server.web.call import Call
from jobq_server.web.filters import names_of, parse_moment, parse_uuid
from jobq_server.web.notices import with_notice
from jobq_server.web.problems import Problem
from jobq_server.web.rendering import View
from jobq_server.web.routing import Routes
from jobq_server.web.security.identity import Role
from jobq_server.web.security.payloads import pretty

routes = Routes()

FIELDS: Final = (
    *("kind", "queue", "arguments", "priority", "max_attempts"),
    *("timeout", "run_at", "unique", "run_id", "tags"),
)


@routes.get("/add", access=Role.OPERATE)
async def form(call: Call) -> View:
    """Show the form, filled in with another job if one is named."""
    old = await _old(call, call.query("like"))
    fields: dict[str, Any] = {"kind": call.query("kind"), "queue": call.query("queue"), "arguments": "{}"}
    if old is not None:
        fields = {
            "arguments": pretty(_shown(call, old)),
            "kind": old.kind,
            "max_attempts": old.max_attempts,
            "priority": old.priority,
            "queue": old.queue,
            "run_id": old.run_id or "",
            "tags": ", ".join(old.tags),
            "timeout": old.timeout or "",
        }
    return await _show(call, fields, old)


@routes.post("/add", access=Role.OPERATE)
async def add(call: Call) -> View | Response:
    """Add the job, and show it; show the form again if it cannot be added."""
    given = await call.form()
    old = await _old(call, str(given.get("like", "")))
    fields = {name: str(value) for name, value in given.items()}
    try:
        kind, arguments = fields.get("kind", "").strip(), fields.get("arguments", "").strip().encode() or b"{}"
        if old is not None:
            arguments = with_secrets(kind, arguments, _shown(call, old), old)
        options = options_of(_options(given))
        if "run_at" in fields and fields["run_at"].strip():
            options["run_at"] = parse_moment(fields["run_at"].strip(), "start", await call.storage.now(), ahead=True)
        added = await add_job(call, kind, arguments, options, like=old)
    except (InvalidJobError, ConfigurationError, UnfitArgumentsError) as error:
        return await _show(call, fields, old, str(error))
    if added.created and old is not None and given.get("abort") == "yes":
        await act(call.storage, ACTIONS[Action.ABORT], [old.id], None, call.actor)
    return call.redirect(with_notice(f"/jobs/{added.id}", "add", int(added.created)))


async def _show(call: Call, fields: dict[str, Any], old: JobRecord | None, wrong: str = "") -> View:
    kinds = [kind for worker in await call.storage.workers() for kind in worker.info.kinds]
    context = {
        "can_abort": old is not None and old.state not in FINISHED,
        "fields": {**dict.fromkeys(FIELDS, ""), **fields},
        "kinds": names_of([*kinds, *(definition.kind for definition in call.web.registry)]),
        "max_attempts": MAX_ATTEMPTS,
        "old": old,
        "queues": names_of(depth.queue for depth in await call.storage.depths()),
        "wrong": wrong,
    }
    return View("add.html", context, status=400 if wrong else 200)


async def _old(call: Call, text: str) -> JobRecord | None:
    """Return the job to copy. Raises JobNotFoundError; Problem for a role that does not see its arguments."""
    if not text:
        return None
    if call.web.payloads.hides(call.identity):
        raise Problem(403, f"the role {call.identity.role.value!r} does not see payloads, and cannot copy them")
    (record,) = await call.storage.get([parse_uuid(text, "like")])
    if record is None:
        raise JobNotFoundError(f"no job {text}: it was deleted, or removed after its retention")
    return record


def _shown(call: Call, old: JobRecord) -> bytes:
    return call.web.payloads.arguments(old)


def _options(given: FormData) -> dict[str, Any]:
    """Return the options of a form, converted."""
    return {
        "queue": str(given.get("queue", "")).strip(),
        "priority": _number(given, "priority", int),
        "max_attempts": _number(given, "max_attempts", int),
        "timeout": _number(given, "timeout", float),
        "unique": str(given.get("unique", "")).strip(),
        "run_id": str(given.get("run_id", "")).strip(),
        "tags": [tag.strip() for tag in str(given.get("tags", "")).split(",") if tag.strip()],
    }


def _number(given: FormData, name: str, kind: Any) -> Any:
    text = str(given.get(name, "")).strip()
    try:
        return kind(text) if text else None
    except ValueError:
        raise InvalidJobError(f"{name.replace('_', ' ')} must be a number, not {text[:40]!r}") from None
