"""Actions on jobs: one, the selected, or all that match; those that destroy, and those on many, after a question."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from starlette.datastructures import FormData
from starlette.responses import Response

from jobq_core.errors import InvalidJobError
from jobq_core.operating import shown_count, without_payloads
from jobq_core.operations import start
from jobq_core.storage import Action, JobFilter
from jobq_server.web.actions import ActionInfo, act, audit, parse_action, parse_value
from jobq_server.web.call import Call
from jobq_server.web.filters import describe, names_of, parse_filter, parse_uuid, to_pairs
from jobq_server.web.notices import with_notice
from jobq_server.web.pages.jobs import check_may_search
from jobq_server.web.paths import is_local
from jobq_server.web.rendering import View
from jobq_server.web.routing import Routes
from jobq_server.web.security.identity import Role

routes = Routes()

CONSEQUENCES: Final = {
    Action.ABORT: "They end for good. Handlers of running jobs are asked to stop.",
    Action.RETRY: "Failed and aborted jobs go to the end of their line, with all their attempts restored.",
    Action.DISABLE: "They do not run until they are enabled. Handlers of running jobs are asked to stop.",
    Action.ENABLE: "Disabled jobs become pending, or wait for their time.",
    Action.DELETE: "They are deleted, with their history. This cannot be undone.",
    Action.RUN_NOW: "Jobs that wait for a time become pending now.",
    Action.RESCHEDULE: "Jobs that are not running wait until the new time.",
    Action.MOVE: "Jobs that are not running go to the end of the line of the other queue.",
    Action.PRIORITY: "Jobs that are not running go to the end of the line of that priority.",
}


@routes.post("/bulk", access=Role.OPERATE)
async def bulk(call: Call) -> View | Response:
    """Do an action: at once to one job, unless it destroys; else after the question was answered."""
    form = await call.form()
    info = parse_action(str(form.get("action", "")))
    call.require(info.role)
    ids = [parse_uuid(str(value), "id") for value in form.getlist("id")]
    wanted = parse_filter(form, await call.storage.now())
    check_may_search(call, wanted)
    given = str(form.get("value", "")).strip()
    if form.get("scope") == "selected" and not ids:
        raise InvalidJobError("select the jobs first")
    if form.get("scope") == "all":
        ids = []
    is_sure = form.get("sure") == "yes" or (len(ids) == 1 and not info.destroys)
    if not is_sure or (info.value and not given):
        return await _ask(call, form, info, ids, wanted, given)
    value = parse_value(info, given, await call.storage.now())
    if ids:
        changes = await act(call.storage, info, ids, value, call.actor)
        changed = sum(change.changed for change in changes)
        back = "/jobs" if info.action is Action.DELETE and len(ids) == 1 else _back(form)
        return call.redirect(with_notice(back, info.action.value, changed))
    operation = await start(call.storage, info.action, wanted, value=value, actor=call.actor)
    await audit(call.storage, call.actor, info.action.value, operation.id, details=describe(without_payloads(wanted)))
    call.web.bulk.begin(call.storage, operation)
    return call.redirect(f"/operations/{operation.id}")


async def _ask(call: Call, form: FormData, info: ActionInfo, ids: list[UUID], wanted: JobFilter, value: str) -> View:
    """Show how many jobs it is about, and ask."""
    matched = len(ids) if ids else await call.storage.count(wanted)
    return View(
        "bulk.html",
        {
            "back": _back(form),
            "consequence": CONSEQUENCES[info.action],
            "filter_pairs": to_pairs(wanted),
            "filter_text": describe(wanted),
            "ids": ids,
            "info": info,
            "matched": matched,
            "matched_text": f"{shown_count(wanted, matched)} {'job' if matched == 1 else 'jobs'}",
            "queues": names_of(depth.queue for depth in await call.storage.depths()),
            "value": value,
        },
    )


def _back(form: FormData) -> str:
    back = str(form.get("back", ""))
    return back if is_local(back) else "/jobs"
