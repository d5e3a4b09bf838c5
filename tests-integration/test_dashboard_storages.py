"""Each page and each answer of the API on each storage: what a storage keeps is what they show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from jobq_client import JobQueueClient
from jobq_core import PermanentJobError, job, open_storage
from jobq_server import JobQueueServer, WebOptions
from jobq_server.web.api import ROUTES
from jobq_server.web.pages import ROUTES as PAGES
from jobq_server.web.routing import Declared

API = "/api/v1"


@job(queue="mail", max_attempts=1)
async def send(order_id: int) -> int:
    if order_id % 5 == 0:
        raise PermanentJobError(f"order {order_id} is not paid")
    return order_id


@pytest.fixture
async def http(migrated_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server whose jobs have ended, 40 completed and 10 failed."""
    async with (
        open_storage(migrated_url) as storage,
        JobQueueClient(storage) as client,
        JobQueueServer(storage, jobs=[send], name="web1", web=WebOptions(port=0)) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.web_port}", timeout=60) as http,
    ):
        handles = await client.add_many([send(number) for number in range(50)], tags=["monthly"])
        await asyncio.gather(*(handle.result() for handle in handles), return_exceptions=True)
        yield http


async def until(http: httpx.AsyncClient, path: str, **wanted: Any) -> dict[str, Any]:
    """Return what a path answers, once it has these values."""
    async with asyncio.timeout(60):
        while True:
            read: dict[str, Any] = (await http.get(path)).json()
            if read | wanted == read:
                return read
            await asyncio.sleep(0.01)


def addresses(declared: list[Declared], ids: dict[str, str]) -> list[str]:
    left_out = ("/events", "/live", "/login", "{request}")
    found = [one.path for one in declared if one.method == "GET" and not one.path.endswith(left_out)]
    return [path.replace("{id}", ids.get(path.removeprefix(API).split("/")[1], "")) for path in found]


async def test_each_page_and_each_answer_is_whole(http: httpx.AsyncClient) -> None:
    failed = (await http.get(f"{API}/jobs", params={"state": "failed"})).json()["jobs"]
    (worker,) = (await http.get(f"{API}/workers")).json()
    body = {"action": "retry", "filter": {"queue": "mail", "state": ["failed"]}}
    preview = await http.post(f"{API}/operations", json={**body, "dry_run": True})
    assert preview.json() == {"matched": 10}
    started = (await http.post(f"{API}/operations", json=body)).json()
    ended = await until(http, f"{API}/operations/{started['id']}", state="done")
    assert (ended["changed"], ended["refused"]) == (10, 0)
    ids = {"jobs": failed[0]["id"], "workers": worker["id"], "operations": started["id"]}
    for path in addresses([*PAGES, *ROUTES], ids):
        answer = await http.get(path)
        assert answer.status_code == 200, (path, answer.text)


async def test_what_the_storage_keeps_is_shown(http: httpx.AsyncClient) -> None:
    (queue,) = (await http.get(f"{API}/queues")).json()
    assert queue["jobs"] == {"completed": 40, "failed": 10}
    assert (queue["workers"], queue["slots"]) == (1, 10)
    assert (queue["completed_last_hour"], queue["failed_last_hour"]) == (40, 10)
    assert queue["running_p95"] is not None
    (group,) = (await http.get(f"{API}/failures")).json()
    assert (group["jobs"], group["type"]) == (10, "jobq_core.errors.PermanentJobError")
    for query in ({"argument": "order_id=7"}, {"tag": "monthly", "argument": "order_id=7"}):
        (found,) = (await http.get(f"{API}/jobs", params=query)).json()["jobs"]
        assert found["state"] == "completed"
    found = (await http.get(f"{API}/jobs", params={"error": "order 15 IS not", "state": "failed"})).json()["jobs"]
    assert len(found) == 1


async def test_actions_and_the_audit_are_kept(http: httpx.AsyncClient) -> None:
    await http.post(f"{API}/queues/mail/pause")
    added = (await http.post(f"{API}/jobs", json={"kind": "send", "arguments": {"order_id": 1}})).json()["id"]
    assert (await http.get(f"{API}/jobs/{added}/why")).json()["code"] == "queue-paused"
    moved = await http.post(f"{API}/jobs/{added}/move", json={"queue": "other"})
    later = await http.post(f"{API}/jobs/{added}/reschedule", json={"run_at": "2099-01-01T00:00:00Z"})
    raised = await http.post(f"{API}/jobs/{added}/priority", json={"priority": 7})
    assert [one.json()["changed"] for one in (moved, later, raised)] == [True, True, True]
    job = (await http.get(f"{API}/jobs/{added}")).json()
    assert (job["queue"], job["state"], job["priority"]) == ("other", "scheduled", 7)
    now = await http.post(f"{API}/jobs/{added}/run-now")
    assert now.json()["after"] == "pending"
    assert (await http.post(f"{API}/jobs/{added}/delete")).json()["after"] is None
    entries = (await http.get(f"{API}/audit", params={"target": added})).json()
    assert [one["action"] for one in entries] == ["delete", "run-now", "priority", "reschedule", "move", "add"]
    await http.post(f"{API}/queues/mail/resume")
    again = (await http.post(f"{API}/jobs", json={"kind": "send", "arguments": {"order_id": 3}})).json()["id"]
    assert (await http.get(f"{API}/jobs/{again}/wait")).json()["result"] == 3


async def test_the_stack_of_a_worker_is_asked_for(http: httpx.AsyncClient) -> None:
    (worker,) = (await http.get(f"{API}/workers")).json()
    answer = (await http.post(f"{API}/workers/{worker['id']}/stack", json={"timeout": 25})).json()["answer"]
    assert answer
