"""`/livez`, `/readyz` and `/metrics`: what the platform around asks.

The probes are public, for they say only whether each check holds; the figures are for those who are known.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from jobq_core.health import Check, HealthReport, examine_storage
from jobq_server.web.call import Call
from jobq_server.web.problems import Problem
from jobq_server.web.routing import Routes
from jobq_server.web.security.identity import Role
from jobq_worker import probes

routes = Routes()


@routes.get("/livez", access="public")
async def livez(call: Call) -> Response:
    """Say whether the process works; if it does not, only a restart helps."""
    server = call.web.server
    if server is None or server.has_processes:
        return _respond(call, HealthReport({"loop": Check(True, "the event loop responds")}))
    return _respond(call, probes.livez(server.health()))


@routes.get("/readyz", access="public")
async def readyz(call: Call) -> Response:
    """Say whether requests, and jobs, are served now."""
    server = call.web.server
    report = await examine_storage(call.storage)
    if server is not None and not server.has_processes:
        report = HealthReport({**probes.readyz(server.health()).checks, **report.checks})
    return _respond(call, report)


@routes.get("/metrics", access=Role.VIEW)
async def metrics(call: Call) -> Response:
    """Return the metrics of the storage, and of the server beside it."""
    try:
        from jobq_worker.metrics import metrics_text
    except ModuleNotFoundError:
        raise Problem(501, "metrics need prometheus-client: pip install 'jobq-worker[metrics]'") from None
    sources = call.web.metrics()
    await sources.storage.read()
    text, content_type = metrics_text(sources.all, call.request.headers.get("accept", ""))
    return Response(text, media_type=content_type)


def _respond(call: Call, report: HealthReport) -> Response:
    status = 200 if report.ok else 503
    body: Any = {"status": "ok" if report.ok else "failing", "checks": report.checks}
    if call.request.scope["state"]["identity"] is None:
        body["checks"] = {name: {"ok": check.ok} for name, check in report.checks.items()}
    return Response(msgspec.json.encode(body), status, media_type="application/json")
