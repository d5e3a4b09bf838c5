"""What the pages show, and what their forms do."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from uuid import UUID

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from jobq_core import JobState, Secret, job
from jobq_core.memory import MemoryQueueStorage
from jobq_core.operations import start, work_to_end
from jobq_core.parents import with_parent
from jobq_core.records import Progress, WorkerStats
from jobq_core.states import Ending
from jobq_core.storage import Action, JobFilter, NewJob, OperationState, Retention, WorkerAction
from jobq_server.web import Role, create_app

from .helpers import Connect, Hand, credentials, error, new_job, until

S = JobState


@job(queue="vault")
async def unlock(door: int, code: Secret[str]) -> None: ...


@pytest.fixture
def admin(connect: Connect) -> httpx.AsyncClient:
    return connect(role=Role.ADMIN, jobs=[unlock])


async def shown(client: httpx.AsyncClient, path: str, **query: Any) -> str:
    """Return the text of a page, without its tags."""
    answer = await client.get(path, params=query or None)
    assert answer.status_code == 200, answer.text
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


async def state_of(storage: MemoryQueueStorage, new: NewJob) -> JobState | None:
    (record,) = await storage.get([new.id])
    return None if record is None else record.state


async def add(storage: MemoryQueueStorage, count: int = 1, **options: Any) -> list[NewJob]:
    jobs = [new_job(**options) for _ in range(count)]
    await storage.add(jobs)
    return jobs


# The overview


async def test_the_overview_of_an_empty_storage_says_so(admin: httpx.AsyncClient) -> None:
    assert "No queues yet" in await shown(admin, "/")


async def test_the_overview_shows_what_waits_runs_and_failed(
    admin: httpx.AsyncClient, storage: MemoryQueueStorage
) -> None:
    hand = await Hand(storage).register()
    await add(storage, 5)
    done, failed, _running = await hand.claim(3)
    await hand.settle(done)
    await hand.settle(failed, Ending.FAIL, error=error())
    page = await shown(admin, "/")
    assert "Pending 2 oldest" in page
    assert "Running 1 of 10 slots" in page
    assert "Failed, last hour 1 of 2 that ended" in page
    assert "Workers 1 all alive" in page
    for span in ("day", "week"):
        assert "0 completed" in await shown(admin, "/", span=span, queue="mail")


async def test_the_slots_of_a_worker_are_those_of_its_last_heartbeat(
    admin: httpx.AsyncClient, storage: MemoryQueueStorage
) -> None:
    hand = await Hand(storage).register()
    storage.heartbeat(hand.info).beat(WorkerStats(running=2, slots=16))
    assert "of 16 slots" in await shown(admin, "/")
    for path in ("/workers", f"/workers/{hand.info.id}", "/limits"):
        assert "2 of 16" in await shown(admin, path), path
    assert (await admin.get("/api/v1/workers")).json()[0]["concurrency"] == 16


async def test_the_overview_begins_with_what_is_wrong(admin: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    hand = await Hand(storage).register()
    storage.heartbeat(hand.info).beat(WorkerStats(loop_lag=3.0, hung=2))
    await add(storage, 3, queue="mial")
    page = await shown(admin, "/")
    assert "No live worker serves queue 'mial', where 3 jobs wait; a worker serves 'mail'" in page
    assert "The event loop of worker 'w1' has been blocked for 3 s" in page
    assert "Worker 'w1' has hung handlers, which run past their time limit: 2" in page


# The list


async def test_the_list_follows_its_filters(admin: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    (by_tag,) = await add(storage, tags=("monthly",), run_id="r1")
    (by_argument,) = await add(storage, arguments=b'{"order_id":9007199254740993}', queue="other")
    hand = await Hand(storage, "broken").register()
    (by_error,) = await add(storage, queue="broken", kind="resize")
    (claimed,) = await hand.claim()
    await hand.settle(claimed, Ending.FAIL, error=error("disk full", "OSError"))
    every = {by_tag.id, by_argument.id, by_error.id}
    for query, expected in (
        ({}, every),
        ({"tag": "monthly"}, {by_tag.id}),
        ({"run": "r1"}, {by_tag.id}),
        ({"queue": "other"}, {by_argument.id}),
        ({"argument": "order_id=9007199254740993"}, {by_argument.id}),
        ({"argument": "order_id=9007199254740992"}, set()),
        ({"state": "failed"}, {by_error.id}),
        ({"state": ["failed", "pending"]}, every),
        ({"kind": "resize"}, {by_error.id}),
        ({"error": "DISK"}, {by_error.id}),
        ({"error_type": "OSError"}, {by_error.id}),
        ({"worker": str(hand.info.id)}, {by_error.id}),
        ({"since": "1h"}, every),
        ({"until": "1h"}, set()),
        ({"since": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}, set()),
    ):
        page = await shown(admin, "/jobs", **query)
        assert {one for one in every if str(one) in page} == expected, query


async def test_a_search_goes_to_the_job_or_adds_a_condition(
    admin: httpx.AsyncClient, storage: MemoryQueueStorage
) -> None:
    (one,) = await add(storage)
    found = await admin.get("/jobs", params={"q": f" {one.id} ", "in": "tag"})
    assert found.headers["location"] == f"/jobs/{one.id}"
    added = await admin.get("/jobs", params={"q": "x y", "in": "tag", "tag": "a", "state": "failed", "queue": "mail"})
    assert added.headers["location"] == "/jobs?tag=a&tag=x+y&state=failed&queue=mail"
    replaced = await admin.get("/jobs", params={"q": "b", "in": "error", "error": "a"})
    assert replaced.headers["location"] == "/jobs?error=b"
    assert "is not the id of a job" in (await admin.get("/jobs", params={"q": "x"})).text


async def test_the_fields_of_the_list_suggest_what_is_known(
    admin: httpx.AsyncClient, storage: MemoryQueueStorage
) -> None:
    hand = await Hand(storage, "broken", "idle").register()
    await add(storage, queue="broken", kind="resize", tags=("monthly",), run_id="r1")
    (claimed,) = await hand.claim()
    await hand.settle(claimed, Ending.FAIL, error=error("disk full", "OSError"))
    page = (await admin.get("/jobs")).text
    lists = dict(re.findall(r'<datalist id="known-(\w+)">(.*?)</datalist>', page))
    assert {name: re.findall(r'value="([^"]+)"', options) for name, options in lists.items()} == {
        "queue": ["broken", "idle"],
        "kind": ["resize", "send"],
        "tag": ["monthly"],
        "run": ["r1"],
        "error_type": ["OSError"],
        "worker": [str(hand.info.id)],
    }
    assert 'label="w1"' in lists["worker"]


async def test_a_kind_is_added_to_those_that_are_looked_for(
    admin: httpx.AsyncClient, storage: MemoryQueueStorage
) -> None:
    (resize, send, other) = [(await add(storage, kind=kind))[0] for kind in ("resize", "send", "other")]
    page = await shown(admin, "/jobs", queue="", kind=["resize", "send"], q="", **{"in": ""})
    assert [str(one.id) in page for one in (resize, send, other)] == [True, True, False]
    found = await admin.get("/jobs", params={"queue": "", "kind": ["resize", ""], "q": "x", "in": "tag"})
    assert found.headers["location"] == "/jobs?kind=resize&tag=x"


async def test_pages_of_the_list_follow_each_other(admin: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    await add(storage, 30)
    for wrong in ("0", "201", "0001009999", "x"):
        assert (await admin.get("/jobs", params={"limit": wrong})).status_code == 400
    first = (await admin.get("/jobs", params={"limit": 25, "queue": "mail"})).text
    (older,) = re.findall(r'rel="next" href="([^"]+)"', first)
    second = (await admin.get(unescape(older))).text
    assert len(re.findall(r'name="id"', first)) == 25
    assert len(re.findall(r'name="id"', second)) == 5
    assert 'rel="next"' not in second


# One job


async def test_a_job_shows_all_that_is_known(admin: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    hand = await Hand(storage).register()
    big = b'{"n":123456789012345678,"text":"a\\u00e9","x":0.10}'
    (one,) = await add(storage, arguments=big, max_attempts=3, tags=("monthly",), meta=b'{"traceparent":"00-1"}')
    (claimed,) = await hand.claim()
    await hand.settle(claimed, Ending.RETRY, error=error("no\nluck", traceback="Traceback (most recent call last)"))
    (claimed,) = await hand.claim()
    await hand.progress(claimed, Progress(percent=40, message="row 4", details={"rows": 10}))
    page = await shown(admin, f"/jobs/{one.id}")
    for text in (
        '"n": 123456789012345678, "text": "a\\u00e9", "x": 0.10',
        "Attempt 1 ended with an error",
        "ValueError no luck",
        "Traceback (most recent call last)",
        "Attempt 2 runs for",
        "on w1",
        "40 % row 4",
        '"rows": 10',
        '"traceparent": "00-1"',
        "2 of 3",
        "Why:",
    ):
        assert text in page, text
    await hand.settle(claimed, result=b"[98765432109876543210]")
    assert "98765432109876543210" in await shown(admin, f"/jobs/{one.id}")


async def test_a_job_shows_the_job_that_added_it_and_those_that_it_added(
    admin: httpx.AsyncClient, storage: MemoryQueueStorage
) -> None:
    hand = await Hand(storage).register()
    (parent,) = await add(storage)
    assert "Children" not in await shown(admin, f"/jobs/{parent.id}")
    (claimed,) = await hand.claim()
    await hand.settle(claimed, Ending.FAIL, error=error())
    children = await add(storage, 2, kind="alert", meta=with_parent(None, parent.id))
    page = (await admin.get(f"/jobs/{parent.id}")).text
    assert all(f'<a href="/jobs/{child.id}">alert</a>' in page for child in children)
    assert f'<a href="/jobs?parent={parent.id}">All</a>' in page
    page = (await admin.get(f"/jobs/{children[0].id}")).text
    assert f'<dt>Added by</dt><dd><a class="mono id" href="/jobs/{parent.id}">' in page
    assert "Headers" not in page
    listed = await shown(admin, "/jobs", parent=str(parent.id))
    assert all(str(child.id) in listed for child in children)
    assert f"added by {parent.id}" in listed
    found = await admin.get("/jobs", params={"q": str(parent.id), "in": "parent"})
    assert found.headers["location"] == f"/jobs?parent={parent.id}"


async def test_a_job_names_the_operation_that_changed_it(admin: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    (one,) = await add(storage)
    operation = await start(storage, Action.DISABLE, JobFilter(queue="mail"), actor="kai")
    await work_to_end(storage, operation)
    page = await shown(admin, f"/jobs/{one.id}")
    assert f"(operation {operation.id})" in page
    assert "disable by kai, operation" in page
    assert f'href="/operations/{operation.id}"' in (await admin.get(f"/jobs/{one.id}")).text


async def test_a_job_that_is_gone_is_said_to_be(admin: httpx.AsyncClient) -> None:
    answer = await admin.get("/jobs/01890a5d-ac96-774b-bcce-b302099a8057")
    assert answer.status_code == 404
    assert "removed after its retention" in answer.text


# Actions


async def post(client: httpx.AsyncClient, path: str, data: Any) -> str:
    """Send a form, and return where it leads."""
    answer = await client.post(path, data=data)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


async def test_one_job_is_changed_at_once(admin: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    (one,) = await add(storage)
    form = {"action": "disable", "id": str(one.id), "back": f"/jobs/{one.id}"}
    back = await post(admin, "/bulk", form)
    assert back == f"/jobs/{one.id}?did=disable.1"
    assert "1 job disabled" in await shown(admin, back)
    assert await state_of(storage, one) is S.DISABLED
    assert "Nothing was disabled" in await shown(admin, await post(admin, "/bulk", form))
    (entry,) = await storage.audit(target=str(one.id))
    assert (entry.actor, entry.action) == ("admin", "disable")


async def test_what_destroys_is_asked_for_twice(admin: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    (one,) = await add(storage)
    for action in ("abort", "delete"):
        form = {"action": action, "id": str(one.id), "back": "/jobs"}
        asked = await admin.post("/bulk", data=form)
        assert (asked.status_code, await state_of(storage, one)) == (200, S.PENDING)
        assert 'name="sure" value="yes"' in asked.text
    assert await post(admin, "/bulk", {**form, "sure": "yes", "back": f"/jobs/{one.id}"}) == "/jobs?did=delete.1"
    assert await state_of(storage, one) is None


async def test_the_selected_jobs_are_changed_after_a_question(
    admin: httpx.AsyncClient, storage: MemoryQueueStorage
) -> None:
    first, second, third = await add(storage, 3)
    form: dict[str, Any] = {"action": "disable", "scope": "selected", "id": [str(first.id), str(third.id)]}
    asked = await admin.post("/bulk", data=form)
    assert "2 jobs" in asked.text
    await post(admin, "/bulk", {**form, "sure": "yes"})
    assert [await state_of(storage, one) for one in (first, second, third)] == [S.DISABLED, S.PENDING, S.DISABLED]
    nothing = await admin.post("/bulk", data={"action": "disable", "scope": "selected"})
    assert "Select the jobs first" in nothing.text


async def test_all_that_match_are_changed_by_an_operation(
    admin: httpx.AsyncClient, storage: MemoryQueueStorage
) -> None:
    jobs = await add(storage, 700, tags=("monthly",))
    (other,) = await add(storage)
    form = {"action": "move", "scope": "all", "tag": "monthly", "state": "pending", "back": "/jobs?tag=monthly"}
    asked = await admin.post("/bulk", data=form)
    assert "700 jobs" in asked.text
    assert "state pending, tag monthly" in asked.text
    location = await post(admin, "/bulk", {**form, "value": "later", "sure": "yes"})

    async def over() -> bool:
        (operation,) = await storage.operations()
        return operation.state is OperationState.DONE

    await until(over)
    assert (await storage.counts("later"))["later"][S.PENDING] == len(jobs)
    assert await state_of(storage, other) is S.PENDING
    page = await shown(admin, location)
    assert "700 of 700 jobs processed, 700 changed" in page
    assert "Move later" in await shown(admin, "/operations")
    (entry,) = await storage.audit(target=location.rpartition("/")[2])
    assert (entry.action, entry.actor) == ("move", "admin")


@pytest.mark.parametrize(
    ("action", "value"), [("reschedule", "soon"), ("move", "x" * 256), ("priority", "101"), ("priority", "high")]
)
async def test_a_value_that_cannot_be_is_refused(
    admin: httpx.AsyncClient, storage: MemoryQueueStorage, action: str, value: str
) -> None:
    (one,) = await add(storage)
    answer = await admin.post("/bulk", data={"action": action, "id": str(one.id), "value": value})
    assert answer.status_code == 400
    assert await state_of(storage, one) is S.PENDING


async def test_a_job_is_rescheduled_moved_and_given_a_priority(
    admin: httpx.AsyncClient, storage: MemoryQueueStorage
) -> None:
    (one,) = await add(storage)
    for action, value in (("priority", "-7"), ("move", "other"), ("reschedule", "2h")):
        await post(admin, "/bulk", {"action": action, "id": str(one.id), "value": value})
    (record,) = await storage.get([one.id])
    assert record is not None
    assert (record.priority, record.queue, record.state) == (-7, "other", S.SCHEDULED)
    assert record.run_at is not None
    assert timedelta(hours=1, minutes=59) < record.run_at - datetime.now(UTC) < timedelta(hours=2, minutes=1)


async def test_an_operator_cannot_delete(connect: Connect, storage: MemoryQueueStorage) -> None:
    (one,) = await add(storage)
    operator = connect(role=Role.OPERATE)
    assert "Delete" not in await shown(operator, f"/jobs/{one.id}")
    for form in ({"id": str(one.id)}, {"id": str(one.id), "sure": "yes"}, {"scope": "all", "sure": "yes"}):
        assert (await operator.post("/bulk", data={"action": "delete", **form})).status_code == 403
    assert await state_of(storage, one) is S.PENDING


async def test_a_viewer_sees_no_buttons(connect: Connect, storage: MemoryQueueStorage) -> None:
    (one,) = await add(storage)
    await Hand(storage).register()
    viewer = connect(role=Role.VIEW)
    for path in ("/", "/jobs", f"/jobs/{one.id}", "/failed", "/workers", "/operations", "/settings"):
        forms = re.findall(r'<form[^>]*method="post"[^>]*action="([^"]+)"', (await viewer.get(path)).text)
        assert set(forms) <= {"/theme", "/bulk", "/logout", "/settings/retention"}, path
        assert 'name="action"' not in (await viewer.get(path)).text


# Adding


async def test_a_job_is_added_by_a_form(admin: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    form = {
        "kind": "send",
        "queue": "mail",
        "arguments": '{"order_id": 9007199254740993}',
        "priority": "5",
        "max_attempts": "2",
        "timeout": "7.5",
        "run_at": "30m",
        "tags": "monthly, mail ,",
        "unique": "k",
    }
    location = await post(admin, "/add", form)
    page = await storage.find(JobFilter(tags=["monthly", "mail"]))
    (record,) = await storage.get([page.jobs[0].id])
    assert record is not None
    assert location == f"/jobs/{record.id}?did=add.1"
    assert record.arguments == {"order_id": 9007199254740993}
    assert (record.priority, record.max_attempts, record.timeout, record.state) == (5, 2, 7.5, S.SCHEDULED)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"arguments": "[]"}, "must be a JSON object"),
        ({"arguments": "{"}, "not valid JSON"),
        ({"kind": ""}, "kind must be text"),
        ({"priority": "high"}, "priority must be a number"),
        ({"kind": "unlock", "arguments": '{"door": "x", "code": "y"}'}, "Expected `int`, got `str`"),
    ],
)
async def test_a_form_that_cannot_be_added_is_shown_again(
    admin: httpx.AsyncClient, fields: dict[str, str], said: str
) -> None:
    answer = await admin.post("/add", data={"kind": "send", "arguments": "{}", "tags": "kept", **fields})
    assert answer.status_code == 400
    assert said in unescape(answer.text)
    assert 'value="kept"' in answer.text


async def test_an_edited_job_is_another_one_with_the_secrets_of_the_old(
    admin: httpx.AsyncClient, storage: MemoryQueueStorage
) -> None:
    (old,) = await add(storage, kind="unlock", queue="vault", arguments=b'{"door":7,"code":"1234-5678"}')
    form = (await admin.get("/add", params={"like": str(old.id)})).text
    assert "1234" not in form
    assert "&#34;code&#34;: &#34;***&#34;" in form
    edited = {"like": str(old.id), "kind": "unlock", "arguments": '{"door": 8, "code": "***"}', "abort": "yes"}
    location = await post(admin, "/add", edited)
    (record,) = await storage.get([UUID(location.removeprefix("/jobs/").partition("?")[0])])
    assert record is not None
    assert record.id != old.id
    assert json.loads(record.arguments_json) == {"door": 8, "code": "1234-5678"}
    assert await state_of(storage, old) is S.ABORTED


async def test_what_only_looks_like_a_mask_is_kept(admin: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    (old,) = await add(storage, arguments=b'{"text":"plain","stars":"x"}')
    await post(admin, "/add", {"like": str(old.id), "kind": "send", "arguments": '{"text": "***", "other": "***"}'})
    (newest, _) = (await storage.find(JobFilter())).jobs
    (record,) = await storage.get([newest.id])
    assert record is not None
    assert record.arguments == {"text": "***", "other": "***"}


@pytest.mark.parametrize("beside", ["1e999", "9" * 400, "[" * 2_000 + "]" * 2_000], ids=["float", "integer", "depth"])
async def test_an_edit_that_cannot_be_stored_does_not_show_the_secret(
    admin: httpx.AsyncClient, storage: MemoryQueueStorage, beside: str
) -> None:
    (old,) = await add(storage, arguments=b'{"password":"1234-5678"}')
    edited = {"like": str(old.id), "kind": "send", "arguments": f'{{"password": "***", "x": {beside}}}'}
    answer = await admin.post("/add", data=edited)
    assert answer.status_code == 400
    assert "1234" not in answer.text


async def test_a_secret_does_not_go_along_to_another_kind(
    admin: httpx.AsyncClient, storage: MemoryQueueStorage
) -> None:
    (old,) = await add(storage, arguments=b'{"password":"1234-5678"}')
    edited = {"like": str(old.id), "kind": "echo", "arguments": '{"password": "***"}'}
    answer = await admin.post("/add", data=edited)
    assert answer.status_code == 400
    assert "does not go along to another kind" in answer.text
    await post(admin, "/add", {**edited, "arguments": '{"password": "known"}'})
    (newest, _) = (await storage.find(JobFilter())).jobs
    assert newest.kind == "echo"


# Workers, settings, operations


async def test_a_worker_is_asked_for_its_stacks_and_to_drain(
    admin: httpx.AsyncClient, storage: MemoryQueueStorage
) -> None:
    hand = await Hand(storage).register()
    (one,) = await add(storage)
    await hand.claim()
    location = await post(admin, f"/workers/{hand.info.id}/stack", {"job": str(one.id)})
    assert "has not answered yet" in await shown(admin, location)
    (request,) = await storage.worker_requests(hand.info.id)
    assert (request.action, request.job) == (WorkerAction.STACK, one.id)
    await storage.answer_request(request.id, "File handlers.py, line 7")
    assert "File handlers.py, line 7" in await shown(admin, location)
    assert "Drain w1" in await shown(admin, f"/workers/{hand.info.id}/drain")
    assert await post(admin, f"/workers/{hand.info.id}/drain", {"sure": "yes"}) == "/workers?did=drain.1"
    (request,) = await storage.worker_requests(hand.info.id)
    assert request.action is WorkerAction.DRAIN
    assert (await admin.post("/workers/01890a5d-ac96-774b-bcce-b302099a8057/drain", data={"x": ""})).status_code == 404


async def test_a_queue_is_paused_and_keeps_its_jobs_as_long_as_is_set(
    admin: httpx.AsyncClient, storage: MemoryQueueStorage
) -> None:
    await add(storage)
    await post(admin, "/settings/pause", {"queue": "mail", "paused": "yes"})
    assert "mail paused now by admin" in await shown(admin, "/settings")
    await post(admin, "/settings/pause", {"queue": "mail", "paused": "no"})
    form = {"completed": "1.5", "completed_unit": "hours", "failed": "", "failed_unit": "days", "aborted": "0"}
    await post(admin, "/settings/retention", {"queue": "mail", **form})
    (record,) = await storage.queues()
    assert (record.paused_at, record.retention) == (None, Retention(completed=5_400, failed=None, aborted=0))
    assert "set by an operator" in await shown(admin, "/settings")
    for wrong in ({"completed": "x"}, {"completed": "1", "completed_unit": "years"}, {"completed": "-1"}):
        assert (await admin.post("/settings/retention", data={"queue": "mail", **wrong})).status_code == 400
    assert (await admin.post("/settings/pause", data={"queue": "nothing", "paused": "yes"})).status_code == 404


async def test_an_operation_is_cancelled(admin: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    await add(storage, 3)
    operation = await start(storage, Action.ABORT, JobFilter(queue="mail"), actor="kai")
    assert "Cancel the rest" in await shown(admin, f"/operations/{operation.id}")
    location = await post(admin, f"/operations/{operation.id}/cancel", {"x": ""})
    assert "1 operation cancelled" in await shown(admin, location)
    assert "cancelled" in await shown(admin, "/operations")


async def test_failures_are_grouped(admin: httpx.AsyncClient, storage: MemoryQueueStorage) -> None:
    hand = await Hand(storage).register()
    await add(storage, 5)
    for number, claimed in enumerate(await hand.claim(5)):
        message = "the disk is full" if number == 4 else f"order {number} is not paid"
        await hand.settle(claimed, Ending.FAIL, error=error(message, "shop.errors.Refused"))
    page = await shown(admin, "/failed")
    assert "4 shop.errors.Refused order 3 is not paid" in page
    assert "1 shop.errors.Refused the disk is full" in page
    assert "No failed jobs" in await shown(admin, "/failed", queue="other")


# Frame


async def test_the_theme_is_kept_in_a_cookie(admin: httpx.AsyncClient) -> None:
    assert "data-theme" not in (await admin.get("/")).text
    assert await post(admin, "/theme", {"theme": "dark", "to": "/jobs?queue=mail"}) == "/jobs?queue=mail"
    assert 'data-theme="dark"' in (await admin.get("/")).text
    await post(admin, "/theme", {"theme": "", "to": "//evil.example.org"})
    assert "data-theme" not in (await admin.get("/")).text


@pytest.mark.parametrize(
    ("mount", "root_path", "base"), [("/ops/jobq", "", "/ops/jobq"), ("", "/behind", "/behind"), ("/a", "/b", "/a/b")]
)
async def test_all_addresses_are_below_the_place_of_the_application(
    connect: Connect, storage: MemoryQueueStorage, mount: str, root_path: str, base: str
) -> None:
    inner = create_app(storage, auth=credentials(), root_path=root_path)
    client = connect(Starlette(routes=[Mount(mount, inner)]) if mount else inner, role=Role.ADMIN)
    (one,) = await add(storage)
    await Hand(storage).register()
    for path in ("/", "/jobs", f"/jobs/{one.id}", "/failed", "/workers", "/settings", "/add", "/nothing", "/login"):
        answer = await client.get(mount + path)
        addresses = re.findall(r'(?:href|src|action|data-live)="([^"#]+)"', answer.text)
        assert all(address == base or address.startswith(f"{base}/") for address in addresses), path
    back = await post(client, f"{mount}/bulk", {"action": "disable", "id": str(one.id), "back": f"/jobs/{one.id}"})
    assert back == f"{base}/jobs/{one.id}?did=disable.1"
    login = await client.post(f"{mount}/login", data={"name": "kai", "secret": "correct horse battery staple"})
    assert f"Path={base}" in login.headers["set-cookie"]
    assert (await client.get(f"{mount}/static/style.css")).status_code == 200
