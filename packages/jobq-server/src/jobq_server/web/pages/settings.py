"""The options of queues: pausing them, and how long they keep finished jobs."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import FormData
from starlette.responses import Response

from jobq_core.errors import InvalidJobError
from jobq_core.storage import Retention
from jobq_server.web.actions import set_paused, set_retention
from jobq_server.web.activity import read_overview
from jobq_server.web.call import Call
from jobq_server.web.notices import with_notice
from jobq_server.web.rendering import View
from jobq_server.web.routing import Routes
from jobq_server.web.security.identity import Role

routes = Routes()

UNITS: Final = {"seconds": 1, "minutes": 60, "hours": 3_600, "days": 86_400}
FINAL_STATES: Final = ("completed", "failed", "aborted")


@routes.get("/settings", access=Role.VIEW)
async def settings(call: Call) -> View:
    """Show the queues with their options."""
    read = await read_overview(call.storage)
    return View(
        "settings.html",
        {"default": Retention(), "queues": read.queues, "split": split, "storage_now": read.now, "UNITS": UNITS},
    )


@routes.post("/settings/pause", access=Role.OPERATE)
async def pause(call: Call) -> Response:
    """Pause or resume a queue."""
    form = await call.form()
    paused = form.get("paused") == "yes"
    await set_paused(call.storage, str(form.get("queue", "")), call.actor, paused=paused)
    return call.redirect(with_notice("/settings", "pause" if paused else "resume", 1))


@routes.post("/settings/retention", access=Role.ADMIN)
async def retention(call: Call) -> Response:
    """Set how long a queue keeps its finished jobs."""
    form = await call.form()
    kept = Retention(**{state: _seconds(form, state) for state in FINAL_STATES})
    await set_retention(call.storage, str(form.get("queue", "")), kept, call.actor)
    return call.redirect(with_notice("/settings", "retention", 1))


def _seconds(form: FormData, state: str) -> float | None:
    """Return the seconds that a form says; an empty number is forever."""
    text, unit = str(form.get(state, "")).strip(), str(form.get(f"{state}_unit", "seconds"))
    if unit not in UNITS:
        raise InvalidJobError(f"unknown unit {unit[:20]!r}; expected one of {', '.join(UNITS)}")
    if not text:
        return None
    try:
        return float(text) * UNITS[unit]
    except ValueError:
        raise InvalidJobError(f"{state} must be a number, or empty for forever, not {text[:20]!r}") from None


def split(seconds: float | None) -> tuple[str, str]:
    """Return a length of time as a number and its largest whole unit; no number for forever."""
    if seconds is None:
        return "", "days"
    for unit, length in reversed(UNITS.items()):
        if seconds and seconds % length == 0:
            return f"{seconds / length:.0f}", unit
    return f"{seconds:g}", "seconds"
