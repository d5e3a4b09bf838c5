"""What is wrong, and the command that cures it."""

from __future__ import annotations

from jobq_core.doctor import examine
from jobq_core.storage import Severity
from jobq_server.web.call import Call
from jobq_server.web.rendering import View
from jobq_server.web.routing import Routes
from jobq_server.web.security.identity import Role

routes = Routes()


@routes.get("/doctor", access=Role.VIEW)
async def doctor(call: Call) -> View:
    """Examine the queues, the workers and the database."""
    findings = await examine(call.storage)
    return View(
        "doctor.html",
        {
            "errors": sum(finding.severity is Severity.ERROR for finding in findings),
            "findings": findings,
            "storage_url": call.storage.url,
        },
    )
