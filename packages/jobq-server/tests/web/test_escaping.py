"""Text of jobs, workers and addresses is text on every page."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import Progress
from jobq_core.states import Ending
from jobq_core.storage import QueueOptions
from jobq_server.web import Role

from .helpers import Connect, Hand, error, new_job
from .test_routes import GUARDED, Declared, name

SCRIPT = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}${7*7}"
PAGES = [one for one in GUARDED if one.method == "GET" and not one.path.startswith("/api/") and one.path != "/live"]


async def plant(storage: MemoryQueueStorage) -> str:
    """Store jobs and a worker whose every text is a script; return the id of a job that has most of them."""
    hand = await Hand(storage, SCRIPT, name=SCRIPT).register()
    arguments = json.dumps({SCRIPT: SCRIPT}).encode()
    texts = {"tags": (SCRIPT,), "run_id": SCRIPT, "unique_key": SCRIPT, "meta": arguments}
    jobs = [new_job(SCRIPT, SCRIPT, arguments, **({} if n else texts)) for n in range(9)]
    await storage.add(jobs)
    claimed = await hand.claim(8)
    await hand.settle(claimed[0], Ending.FAIL, error=error(SCRIPT, SCRIPT, SCRIPT))
    for failed in claimed[1:6]:
        await hand.settle(failed, Ending.FAIL, error=error(SCRIPT, SCRIPT, SCRIPT))
    await hand.settle(claimed[6], result=arguments)
    await hand.progress(claimed[7], Progress(percent=7, message=SCRIPT, details={SCRIPT: SCRIPT}))
    await storage.add([new_job(SCRIPT, "paused" + SCRIPT, run_at=datetime.now(UTC) + timedelta(days=1))])
    await storage.set_queue("paused" + SCRIPT, QueueOptions(paused=True, actor=SCRIPT))
    return str(claimed[0].id)


@pytest.mark.parametrize("one", PAGES, ids=name)
async def test_scripts_are_text_on_every_page(connect: Connect, storage: MemoryQueueStorage, one: Declared) -> None:
    job = await plant(storage)
    answer = await connect(role=Role.ADMIN).get(one.path.replace("{id}", job), params={"queue": SCRIPT})
    assert answer.status_code in (200, 404)
    assert "<script>alert" not in answer.text
    assert "<img src=x" not in answer.text
    assert "&lt;script&gt;" in answer.text


async def test_scripts_in_an_address_are_text(connect: Connect) -> None:
    client = connect(role=Role.ADMIN)
    for path in (f"/{SCRIPT}", f"/jobs/{SCRIPT}", "/nothing"):
        answer = await client.get(path, params={SCRIPT: SCRIPT, "state": SCRIPT})
        assert "<script>alert" not in answer.text
    wrong = await client.get("/jobs", params={"state": SCRIPT, "after": SCRIPT, "limit": SCRIPT})
    assert wrong.status_code == 400
    assert "<script>alert" not in wrong.text


async def test_a_job_shows_its_texts(connect: Connect, storage: MemoryQueueStorage) -> None:
    job = await plant(storage)
    page = (await connect(role=Role.VIEW).get(f"/jobs/{job}")).text
    assert page.count("&lt;script&gt;") > 10
