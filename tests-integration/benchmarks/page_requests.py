"""The pages of the dashboard and the routes of the HTTP API, requested from the application in this process."""

from __future__ import annotations

from typing import Final

import httpx
from page_reads import Read

from jobq_core.states import JobState
from jobq_core.storage import JobFilter, QueueStorage
from jobq_server.web import create_app

PATHS: Final = (
    *("/", "/?span=day", "/?span=week", "/?span=week&queue=queue3"),
    *("/jobs", "/jobs?limit=200", "/jobs?state=failed", "/jobs?queue=queue3", "/jobs?queue=queue3&state=pending"),
    *("/jobs?kind=kind3.1", "/jobs?kind=none", "/jobs?tag=customer:76", "/jobs?run=run7", "/jobs?since=1d"),
    *("/jobs?argument=customer=c77", "/jobs?error=host 16 did not", "/jobs?error_type=TimeoutError"),
    *("/failed", "/failed?queue=queue3", "/workers", "/limits", "/audit", "/operations", "/doctor", "/settings"),
    *("/metrics", "/readyz"),
    *("/api/v1/queues", "/api/v1/depths", "/api/v1/activity", "/api/v1/statistics"),
    *("/api/v1/jobs", "/api/v1/jobs?state=failed", "/api/v1/failures", "/api/v1/workers", "/api/v1/doctor"),
)


async def make_requests(storage: QueueStorage) -> dict[str, Read]:
    """Return requests by what they ask for. A request raises if the answer is not 200."""
    transport = httpx.ASGITransport(app=create_app(storage), client=("127.0.0.1", 50_000))
    client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
    requests = {path: _getting(client, path) for path in PATHS}
    for state in (JobState.PENDING, JobState.COMPLETED, JobState.FAILED):
        (job,) = (await storage.find(JobFilter(states=[state]), limit=1)).jobs
        requests[f"/jobs/{{{state.value}}}"] = _getting(client, f"/jobs/{job.id}")
    for worker in (await storage.workers())[:1]:
        requests["/workers/{id}"] = _getting(client, f"/workers/{worker.info.id}")
    requests["/bulk, all of a queue"] = _posting(client, "/bulk", action="abort", scope="all", queue="queue3")
    requests["/bulk, all of a kind"] = _posting(client, "/bulk", action="abort", scope="all", kind="none")
    return {f"page {name}": request for name, request in requests.items()}


def _getting(client: httpx.AsyncClient, path: str) -> Read:
    async def get() -> None:
        (await client.get(path)).raise_for_status()

    return get


def _posting(client: httpx.AsyncClient, path: str, **form: str) -> Read:
    async def post() -> None:
        (await client.post(path, data=form, headers={"origin": "http://localhost"})).raise_for_status()

    return post
