"""The HTTP API: what it answers, refuses and hides."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from jobq_core import JobState, Secret, job
from jobq_core.ids import new_id
from jobq_core.memory import MemoryQueueStorage
from jobq_core.parents import with_parent
from jobq_core.records import Progress
from jobq_core.states import Ending
from jobq_core.storage import Action, WorkerAction
from jobq_server.web import Role, create_app
from jobq_server.web.actions import ACTIONS

from .helpers import Connect, Hand, credentials, error, new_job, until

API = "/api/v1"


@job(queue="vault", max_attempts=3)
async def unlock(door: int, code: Secret[str]) -> None: ...


@pytest.fixture
def app(storage: MemoryQueueStorage) -> Starlette:
    return create_app(storage, auth=credentials(), jobs=[unlock])


@pytest.fixture
def api(connect: Connect, app: Starlette) -> httpx.AsyncClient:
    client = connect(app, role=Role.ADMIN)
    client.base_url = httpx.URL(f"http://testserver{API}")
    return client


def problem(answer: httpx.Response, status: int) -> str:
    """Return what a refusal says."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert said.keys() == {"type", "title", "status", "detail"}
    assert said["status"] == status
    return str(said["detail"])


async def test_a_job_is_added_found_and_read(api: httpx.AsyncClient) -> None:
    body = {
        "kind": "send",
        "arguments": {"order_id": 9007199254740993, "deep": [{"x": 0.1}]},
        "queue": "mail",
        "priority": 7,
        "delay": 60,
        "timeout": 5,
        "max_attempts": 3,
        "unique": "7",
        "run_id": "r1",
        "tags": ["monthly"],
        "headers": {"tenant": "7", "api_key": "hunter2"},
    }
    added = await api.post("/jobs", json=body)
    assert added.status_code == 201
    assert added.json()["created"] is True
    again = await api.post("/jobs", json=body)
    assert again.status_code == 200
    assert again.json() == {"id": added.json()["id"], "created": False}
    read = (await api.get(f"/jobs/{added.json()['id']}")).json()
    assert read["arguments"] == body["arguments"]
    assert read["headers"] == {"tenant": "7", "api_key": "***"}
    assert (read["state"], read["reason"], read["priority"], read["tags"]) == ("scheduled", "delayed", 7, ["monthly"])
    assert (read["finished"], read["result"], read["attempts"], read["hidden"]) == (False, None, [], False)
    found = (await api.get("/jobs", params={"tag": "monthly", "state": ["scheduled", "failed"]})).json()
    assert [one["id"] for one in found["jobs"]] == [added.json()["id"]]
    assert found["next"] is None
    why = (await api.get(f"/jobs/{read['id']}/why")).json()
    assert why["code"] == "delayed"
    assert (await api.get("/audit")).json()[0]["action"] == "add"


async def test_a_declared_kind_is_checked_and_its_secrets_are_masked(api: httpx.AsyncClient) -> None:
    added = await api.post("/jobs", json={"kind": "unlock", "arguments": {"door": 7, "code": "1234-5678"}})
    read = (await api.get(f"/jobs/{added.json()['id']}")).json()
    assert read["arguments"] == {"door": 7, "code": "***"}
    assert (read["queue"], read["max_attempts"]) == ("vault", 3)
    wrong = await api.post("/jobs", json={"kind": "unlock", "arguments": {"door": "seven", "code": "1234"}})
    assert "Expected `int`, got `str`" in problem(wrong, 400)
    assert "1234" not in wrong.text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "missing required field `kind`"),
        ({"kind": ""}, "length >= 1"),
        ({"kind": "send", "arguments": []}, "Expected `object`, got `array` - at `$.arguments`"),
        ({"kind": "send", "queue": "x" * 256}, "length <= 255"),
        ({"kind": "send", "priority": 101}, "<= 100"),
        ({"kind": "send", "delay": 1, "run_at": "2026-12-01T08:00:00Z"}, "delay or run_at, not both"),
        ({"kind": "send", "run_at": "2026-12-01T08:00:00"}, "timezone"),
        ({"kind": "send", "quue": "mail"}, "unknown field `quue`"),
        ({"kind": "se\0nd"}, "NUL character"),
        ({"kind": "send", "tags": ["x"] * 51}, "length <= 50"),
    ],
)
async def test_a_job_that_cannot_be_added_is_refused(api: httpx.AsyncClient, body: dict[str, Any], said: str) -> None:
    assert said in problem(await api.post("/jobs", json=body), 400)


async def test_another_body_than_json_is_refused(api: httpx.AsyncClient) -> None:
    assert "application/json" in problem(await api.post("/jobs", data={"kind": "send"}), 415)
    headers = {"content-type": "application/json"}
    problem(await api.post("/jobs", content=b"{", headers=headers), 400)
    problem(await api.post("/jobs", content=b"\xff", headers=headers), 400)


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 201},
        {"limit": "x"},
        {"state": "lost"},
        {"after": "x"},
        {"since": "yesterday"},
        {"since": "0001-01-01T00:00:00+23:59"},
        {"argument": "order_id"},
        {"since": "1764547200"},
        {"until": "null"},
        {"worker": "null"},
        {"colour": "red"},
        [("queue", "a"), ("queue", "b")],
    ],
    ids=str,
)
async def test_a_query_that_cannot_be_is_refused(api: httpx.AsyncClient, query: Any) -> None:
    assert problem(await api.get("/jobs", params=query), 400)


async def test_a_parameter_of_a_route_without_any_is_refused(api: httpx.AsyncClient) -> None:
    assert "unknown field `colour`" in problem(await api.get("/me", params={"colour": "red"}), 400)


async def test_a_queue_may_be_called_null(api: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    await storage.add([new_job(queue="null"), new_job()])
    (found,) = (await api.get("/jobs", params={"queue": "null"})).json()["jobs"]
    assert found["queue"] == "null"


@pytest.mark.parametrize("depth", [400, 900, 1_000, 50_000])
async def test_a_body_that_is_nested_too_deeply_is_refused(api: httpx.AsyncClient, depth: int) -> None:
    body = b'{"kind": "send", "arguments": {"n": ' + b"[" * depth + b"]" * depth + b"}}"
    answer = await api.post("/jobs", content=body, headers={"content-type": "application/json"})
    assert "nested" in problem(answer, 400)


async def test_another_method_is_refused_with_all_that_the_address_takes(api: httpx.AsyncClient) -> None:
    refused = await api.put("/jobs")
    problem(refused, 405)
    assert refused.headers["allow"] == "GET, HEAD, POST"


async def test_what_does_not_exist_is_not_found(api: httpx.AsyncClient) -> None:
    for path in (f"/jobs/{new_id()}", "/jobs/7", f"/jobs/{new_id()}/why", f"/workers/{new_id()}", "/nothing"):
        problem(await api.get(path), 404)
    for path in (f"/jobs/{new_id()}/abort", f"/operations/{new_id()}/cancel", "/queues/nothing/pause"):
        problem(await api.post(path), 404)
    assert "does not take this method" in problem(await api.delete(f"/jobs/{new_id()}"), 405)


async def test_pages_follow_each_other(api: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    await storage.add([new_job() for _ in range(5)])
    first = (await api.get("/jobs", params={"limit": 3})).json()
    second = (await api.get("/jobs", params={"limit": 3, "after": first["next"]})).json()
    assert len({one["id"] for one in first["jobs"] + second["jobs"]}) == 5
    assert second["next"] is None


async def test_each_action_changes_one_job(api: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    bodies: dict[Action, Any] = {
        Action.RESCHEDULE: {"run_at": later.isoformat()},
        Action.MOVE: {"queue": "other"},
        Action.PRIORITY: {"priority": 5},
    }
    after = {Action.ABORT: "aborted", Action.DISABLE: "disabled", Action.RESCHEDULE: "scheduled", Action.DELETE: None}
    for action in Action:
        new = new_job()
        await storage.add([new])
        if action is Action.RETRY:
            await storage.abort([new.id])
        elif action is Action.ENABLE:
            await storage.disable([new.id])
        elif action is Action.RUN_NOW:
            await storage.reschedule([new.id], later)
        answer = await api.post(f"/jobs/{new.id}/{action.value}", json=bodies.get(action))
        assert answer.status_code == 200, answer.text
        changed = answer.json()
        assert changed["changed"] is True
        assert changed["after"] == after.get(action, "pending")
        (entry,) = await storage.audit(target=str(new.id))
        assert (entry.action, entry.actor) == (action.value, "admin")
    assert set(ACTIONS) == set(Action)


async def test_an_operation_is_previewed_and_worked_off(api: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    await storage.add([new_job() for _ in range(1_200)])
    body = {"action": "disable", "filter": {"queue": "mail", "state": ["pending"]}}
    preview = await api.post("/operations", json={**body, "dry_run": True})
    assert (preview.status_code, preview.json()) == (200, {"matched": 1200})
    assert (await api.get("/operations")).json() == []
    begun = await api.post("/operations", json=body)
    assert begun.status_code == 202
    operation = begun.json()
    assert operation["filter"]["queue"] == "mail"

    async def over() -> Any:
        read = (await api.get(f"/operations/{operation['id']}")).json()
        return None if read["state"] == "running" else read

    operation = await until(over)
    assert (operation["state"], operation["changed"], operation["actor"]) == ("done", 1200, "admin")
    cancelled = (await api.post(f"/operations/{operation['id']}/cancel")).json()
    assert cancelled == {"id": operation["id"], "cancelled": False}


async def test_deleting_by_an_operation_needs_the_role_admin(connect: Connect) -> None:
    operator = connect(role=Role.OPERATE)
    body = {"action": "delete", "filter": {}, "dry_run": True}
    assert "needs the role 'admin'" in problem(await operator.post(f"{API}/operations", json=body), 403)


async def test_waiting_ends_with_the_job(app: Starlette, api: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    hand = await Hand(storage).register()
    await storage.add([new_job()])
    (claimed,) = await hand.claim()
    assert (await api.get(f"/jobs/{claimed.id}/wait", params={"timeout": 0})).json()["finished"] is False
    streams = app.state.web.streams
    waiting = asyncio.create_task(api.get(f"/jobs/{claimed.id}/wait"))

    async def is_waiting() -> bool:
        return streams.count == 1

    await until(is_waiting)
    await hand.settle(claimed, result=b'{"n":12345678901234567}')
    ended = (await waiting).json()
    assert (ended["finished"], ended["state"], ended["result"]) == (True, "completed", {"n": 12345678901234567})


async def test_following_shows_progress_and_the_end(api: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    hand = await Hand(storage).register()
    await storage.add([new_job()])
    (claimed,) = await hand.claim()
    await hand.progress(claimed, Progress(percent=40, message="row\r\ndata: 4"))
    await hand.settle(claimed, Ending.FAIL, error=error("no\nluck"))
    answer = await api.get(f"/jobs/{claimed.id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    (event,) = [block for block in answer.text.split("\n\n") if block.startswith("event:")]
    name, data = event.split("\n")
    assert name == "event: end"
    assert '"state":"failed"' in data
    assert '"percent":40' in data


async def test_following_ends_with_a_deleted_job(
    app: Starlette, api: httpx.AsyncClient, storage: MemoryQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobq_server.web.api.jobs.LOOK_SECONDS", 0.01)
    await storage.add([job := new_job()])
    followed = asyncio.create_task(api.get(f"/jobs/{job.id}/events"))

    async def is_followed() -> bool:
        return bool(app.state.web.streams.count)

    await until(is_followed)
    await storage.delete([job.id])
    assert "event: deleted\ndata: null\n\n" in (await followed).text


async def test_queues_are_shown_paused_and_kept(api: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    name = "a/b ü"
    await storage.add([new_job(queue=name)])
    assert (await api.post(f"/queues/{name}/pause")).json() == {"queue": name, "paused": True}
    (row,) = (await api.get("/queues")).json()
    assert (row["name"], row["jobs"], row["paused_by"]) == (name, {"pending": 1}, "admin")
    await api.post(f"/queues/{name}/resume")
    kept = {"completed": 60.0, "failed": None, "aborted": 0.0}
    assert (await api.post(f"/queues/{name}/retention", json=kept)).json() == kept
    (row,) = (await api.get("/queues")).json()
    assert (row["paused_at"], row["retention"]) == (None, kept)
    (depth,) = (await api.get("/depths", params={"queue": name})).json()
    assert (depth["state"], depth["jobs"]) == ("pending", 1)
    assert [entry.action for entry in await storage.audit(target=name)] == ["retention", "resume", "pause"]


async def test_activity_and_statistics_show_what_ended(api: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    hand = await Hand(storage).register()
    await storage.add([new_job(), new_job()])
    for claimed in await hand.claim(2):
        await hand.settle(claimed)
    for span in ("hour", "day", "week"):
        (queue,) = (await api.get("/activity", params={"span": span})).json()
        assert sum(point["completed"] for point in queue["points"]) == 2
        (record,) = (await api.get("/statistics", params={"span": span, "queue": "mail"})).json()
        assert (record["state"], record["jobs"], sum(record["running"].values())) == ("completed", 2, 2)
    problem(await api.get("/activity", params={"span": "year"}), 400)


async def test_workers_answer_requests(api: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    hand = await Hand(storage).register()
    (worker,) = (await api.get("/workers")).json()
    assert (worker["name"], worker["alive"], worker["queues"]) == ("w1", True, ["mail"])
    asking = asyncio.create_task(api.post(f"/workers/{worker['id']}/stack", json={}))
    requests = await until(lambda: storage.worker_requests(hand.info.id))
    assert (requests[0].action, requests[0].actor) == (WorkerAction.STACK, "admin")
    await storage.answer_request(requests[0].id, "File …")
    assert (await asking).json()["answer"] == "File …"
    later = await api.get(f"/workers/{worker['id']}/requests/{requests[0].id}")
    assert later.json()["answer"] == "File …"
    await api.post(f"/workers/{worker['id']}/drain")
    assert [one.action for one in await storage.worker_requests(hand.info.id)] == [WorkerAction.DRAIN]


async def fail_one(storage: MemoryQueueStorage) -> str:
    hand = await Hand(storage).register()
    new = new_job(arguments=b'{"pin":4711}', meta=b'{"x":"4711"}')
    await storage.add([new])
    (claimed,) = await hand.claim()
    await hand.progress(claimed, Progress(percent=1, message="at 4711", details="4711"))
    await hand.settle(claimed, Ending.FAIL, error=error("pin 4711 is wrong", traceback="pin 4711"))
    return str(new.id)


async def test_payloads_are_hidden_from_the_roles_that_do_not_see_them(
    connect: Connect, storage: MemoryQueueStorage
) -> None:
    failed = await fail_one(storage)
    hand = await Hand(storage, "other", name="w2").register()
    running = new_job(queue="other", arguments=b'{"pin":4711}')
    await storage.add([running])
    (claimed,) = await hand.claim()
    await hand.progress(claimed, Progress(percent=1, message="at 4711", details="4711"))
    viewer = connect(role=Role.VIEW, hide_payloads=["view"])
    operator = connect(role=Role.OPERATE, hide_payloads=["view"])
    api_paths = ["jobs", f"jobs/{failed}/events", "failures"]
    pages = ["/jobs", "/failed", f"/workers/{hand.info.id}", "/"]
    for one in (failed, str(running.id)):
        api_paths += [f"jobs/{one}", f"jobs/{one}/why"]
        pages.append(f"/jobs/{one}")
    for path in (*(f"{API}/{path}" for path in api_paths), *pages):
        seen = await viewer.get(path)
        assert seen.status_code == 200
        assert "4711" not in seen.text.replace(str(running.id), "").replace(failed, ""), path
    for path in (f"{API}/jobs/{failed}", f"{API}/failures", f"/jobs/{failed}"):
        assert "4711" in (await operator.get(path)).text, path
    # A search would answer what is hidden.
    for query in ({"error": "4711"}, {"argument": "pin=4711"}):
        assert "cannot search" in problem(await viewer.get(f"{API}/jobs", params=query), 403)
        assert (await viewer.get("/jobs", params=query)).status_code == 403


async def test_children_are_found_by_their_parent(api: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    hand = await Hand(storage).register()
    parent = new_job()
    await storage.add([parent])
    (claimed,) = await hand.claim()
    await hand.settle(claimed, Ending.FAIL, error=error())
    child = new_job(meta=with_parent(None, parent.id))
    await storage.add([child])
    found = (await api.get("/jobs", params={"parent": str(parent.id)})).json()
    assert [one["id"] for one in found["jobs"]] == [str(child.id)]
    read = (await api.get(f"/jobs/{child.id}")).json()
    assert (read["parent"], read["headers"]) == (str(parent.id), None)
    assert (await api.get(f"/jobs/{parent.id}")).json()["parent"] is None
    body = {"action": "abort", "filter": {"parent": str(parent.id)}, "dry_run": True}
    assert (await api.post("/operations", json=body)).json() == {"matched": 1}


async def test_a_secret_cannot_be_searched_for(api: httpx.AsyncClient) -> None:
    for argument in ('code="1234-5678"', "db_password=x", "api_key=7"):
        assert "is secret" in problem(await api.get("/jobs", params={"argument": argument}), 403)
        body = {"action": "abort", "filter": {"argument": argument}, "dry_run": True}
        assert "is secret" in problem(await api.post("/operations", json=body), 403)


async def test_the_doctor_failures_and_me_answer(api: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    await storage.add([new_job(queue="lonely")])
    (finding,) = (await api.get("/doctor")).json()
    assert (finding["code"], finding["severity"], finding["subject"]) == ("no-worker", "error", "lonely")
    await fail_one(storage)
    (group,) = (await api.get("/failures", params={"queue": "mail"})).json()
    assert (group["jobs"], group["type"], group["kind"]) == (1, "ValueError", "send")
    assert (await api.get("/me")).json() == {"name": "admin", "role": "admin"}
    assert (await storage.counts("mail"))["mail"][JobState.FAILED] == 1


async def test_json_that_is_nested_too_deeply_is_refused(connect: Connect, storage: MemoryQueueStorage) -> None:
    deep = b"[" * 50_000 + b"]" * 50_000
    client = connect(role=Role.ADMIN)
    body = b'{"kind":"send","arguments":{"a":' + deep + b"}}"
    answer = await client.post("/api/v1/jobs", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (400, "the body is nested too deeply")
    # Another program has stored such a job: it can be looked at, without what a secret may be in.
    one = new_job(arguments=b'{"password":"1234-5678","a":' + deep + b"}")
    await storage.add([one])
    for path in (f"/jobs/{one.id}", f"/api/v1/jobs/{one.id}"):
        shown = await client.get(path)
        assert shown.status_code == 200
        assert "1234" not in shown.text


async def test_metrics_are_plain_text_where_accept_cannot_be_read(connect: Connect) -> None:
    wrong = {"accept": "application/openmetrics-text; version=x"}
    answer = await connect(role=Role.VIEW).get("/metrics", headers=wrong)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")


async def test_what_an_operation_looked_for_in_payloads_is_hidden_too(
    connect: Connect, storage: MemoryQueueStorage
) -> None:
    app = create_app(storage, auth=credentials(), hide_payloads=["view"])
    wanted = {"error": "card 4711", "argument": "card=4711", "queue": "mail"}
    started = await connect(app, role=Role.ADMIN).post("/api/v1/operations", json={"action": "retry", "filter": wanted})
    await connect(app, role=Role.ADMIN).post("/bulk", data={"action": "retry", "scope": "all", "sure": "yes", **wanted})
    one = f"/operations/{started.json()['id']}"
    assert "4711" in (await connect(app, role=Role.OPERATE).get(one)).text
    for path in ("/operations", one, "/audit", "/api/v1/operations", f"/api/v1{one}", "/api/v1/audit"):
        answer = await connect(app, role=Role.VIEW).get(path)
        assert answer.status_code == 200
        assert "4711" not in answer.text, path
        assert "mail" in answer.text
