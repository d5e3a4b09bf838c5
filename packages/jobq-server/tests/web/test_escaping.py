"""Text of jobs, workers, operators and addresses is text on every page."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from jobq_core.ids import new_id
from jobq_core.memory import MemoryQueueStorage
from jobq_core.operations import start
from jobq_core.records import Progress
from jobq_core.states import Ending
from jobq_core.storage import Action, AuditEntry, JobFilter, LogLine, LogPart, QueueOptions, WorkerAction, WorkerRequest
from jobq_server.web import Role

from .helpers import Connect, Hand, error, new_job
from .test_routes import GUARDED, Declared, name

SCRIPT = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}${7*7}"
NOT_PAGES = ("/live", "/metrics")
PAGES = [
    one for one in GUARDED if one.method == "GET" and not one.path.startswith("/api/") and one.path not in NOT_PAGES
]


async def plant(storage: MemoryQueueStorage) -> dict[str, str]:
    """Store jobs, a worker, an operation and more whose every text is a script; return the ids by kind of page."""
    hand = await Hand(storage, SCRIPT, name=SCRIPT).register()
    arguments = json.dumps({SCRIPT: SCRIPT}).encode()
    texts = {"tags": (SCRIPT,), "run_id": SCRIPT, "unique_key": SCRIPT, "meta": arguments}
    jobs = [new_job(SCRIPT, SCRIPT, arguments, **({} if n else texts)) for n in range(9)]
    await storage.add(jobs)
    claimed = await hand.claim(8)
    for failed in claimed[:6]:
        await hand.settle(failed, Ending.FAIL, error=error(SCRIPT, SCRIPT, SCRIPT))
    await hand.settle(claimed[6], result=arguments)
    line = LogLine(datetime.now(UTC), SCRIPT, SCRIPT, SCRIPT)
    await storage.write_logs([LogPart(job=claimed[0].id, lease=n, attempt=1, part=0, lines=(line,)) for n in range(2)])
    await hand.progress(claimed[7], Progress(percent=7, message=SCRIPT, details={SCRIPT: SCRIPT}))
    await storage.add([new_job(SCRIPT, "paused" + SCRIPT, run_at=datetime.now(UTC) + timedelta(days=1))])
    await storage.add([new_job(SCRIPT, "lonely" + SCRIPT)])
    await storage.set_queue("paused" + SCRIPT, QueueOptions(paused=True, actor=SCRIPT))
    wanted = JobFilter(queue=SCRIPT, tags=[SCRIPT], error=SCRIPT, argument=(SCRIPT, SCRIPT))
    operation = await start(storage, Action.MOVE, wanted, value=SCRIPT, actor=SCRIPT)
    now = datetime.now(UTC)
    details = {SCRIPT: SCRIPT}
    await storage.record_audit(
        [
            AuditEntry(id=new_id(), at=now, actor=SCRIPT, action=SCRIPT, target=target, details=details)
            for target in (SCRIPT, str(claimed[0].id))
        ]
    )
    request = WorkerRequest(
        id=new_id(), worker=hand.info.id, action=WorkerAction.STACK, job=None, actor=SCRIPT, asked_at=now
    )
    await storage.ask_worker(request)
    await storage.answer_request(request.id, SCRIPT)
    return {
        "jobs": str(claimed[0].id),
        "workers": str(hand.info.id),
        "operations": str(operation.id),
        "request": str(request.id),
    }


def check(html: str) -> None:
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "$49" not in html


@pytest.mark.parametrize("one", PAGES, ids=name)
async def test_scripts_are_text_on_every_page(connect: Connect, storage: MemoryQueueStorage, one: Declared) -> None:
    ids = await plant(storage)
    path = one.path.replace("{id}", ids.get(one.path.split("/")[1], ""))
    query = {"request": ids["request"]} if path.startswith("/workers/") else {"like": ids["jobs"]}
    answer = await connect(role=Role.ADMIN).get(path, params=query)
    assert answer.status_code == 200
    check(answer.text)
    assert "&lt;script&gt;" in answer.text


@pytest.mark.parametrize("path", ["/", "/jobs", "/failed", "/audit"], ids=lambda path: path)
async def test_scripts_in_conditions_are_text(connect: Connect, storage: MemoryQueueStorage, path: str) -> None:
    await plant(storage)
    query = dict.fromkeys(("queue", "tag", "kind", "run", "error", "error_type", "target", "span", "did"), SCRIPT)
    answer = await connect(role=Role.ADMIN).get(path, params={**query, "argument": f"{SCRIPT}={SCRIPT}"})
    assert answer.status_code == 200
    check(answer.text)
    assert "&lt;script&gt;" in answer.text


async def test_scripts_in_an_address_are_text(connect: Connect) -> None:
    client = connect(role=Role.ADMIN)
    for path in (f"/{SCRIPT}", f"/jobs/{SCRIPT}", "/nothing"):
        answer = await client.get(path, params={SCRIPT: SCRIPT, "state": SCRIPT})
        check(answer.text)
    for query in ({"state": SCRIPT}, {"after": SCRIPT}, {"limit": SCRIPT}, {"q": SCRIPT}, {"since": SCRIPT}):
        wrong = await client.get("/jobs", params=query)
        assert wrong.status_code == 400
        check(wrong.text)


async def test_scripts_are_text_where_forms_are_answered(connect: Connect, storage: MemoryQueueStorage) -> None:
    ids = await plant(storage)
    client = connect(role=Role.ADMIN)
    filters = {"queue": SCRIPT, "tag": SCRIPT, "error": SCRIPT, "argument": f"{SCRIPT}={SCRIPT}"}
    for form in (
        {"action": "abort", "scope": "all", "back": SCRIPT, **filters},
        {"action": "move", "id": ids["jobs"], "back": f"/{SCRIPT}"},
        {"action": "priority", "scope": "all", "value": SCRIPT, "sure": "yes"},
        {"action": SCRIPT},
        {"action": "abort", "id": SCRIPT},
    ):
        answer = await client.post("/bulk", data=form)
        assert answer.status_code in (200, 400)
        check(answer.text)
    wrong = await client.post("/add", data={"kind": SCRIPT, "queue": SCRIPT, "arguments": SCRIPT, "tags": SCRIPT})
    assert wrong.status_code == 400
    check(wrong.text)
    login = await client.post("/login", data={"name": SCRIPT, "secret": SCRIPT, "to": "/" + SCRIPT})
    assert login.status_code == 401
    check(login.text)
