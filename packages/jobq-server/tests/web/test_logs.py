"""The logs of a job, on its page and by the API: the last ones, by attempt, for the roles that see payloads."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import httpx
import pytest

from jobq_core.ids import new_id
from jobq_core.memory import MemoryQueueStorage
from jobq_core.storage import LogLine, LogPart, NewJob
from jobq_server.web import Role
from jobq_server.web.logs import SHOWN_BYTES

from .helpers import Connect, new_job

AT = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)


def part(job: NewJob, lease: int, number: int, *messages: str, attempt: int = 1, level: str = "INFO") -> LogPart:
    lines = [LogLine(AT + timedelta(seconds=n), level, "shop.mail", text) for n, text in enumerate(messages)]
    return LogPart(job=job.id, lease=lease, attempt=attempt, part=number, lines=tuple(lines))


@pytest.fixture
async def logged(storage: MemoryQueueStorage) -> NewJob:
    """A job that logged in two attempts."""
    job = new_job()
    await storage.add([job])
    await storage.write_logs(
        [
            part(job, 3, 0, "to ann", "two\nlines"),
            part(job, 3, 1, "no answer", level="ERROR"),
            part(job, 7, 0, "to ann again", attempt=2),
        ]
    )
    return job


async def section(client: httpx.AsyncClient, job: NewJob) -> str:
    """Return the text of the part of a job's page that has its logs."""
    html = await page(client, job)
    (found,) = re.findall(r'<div id="live_logs">(.*?)</div>\s*</div>\s*<div class="side', html, re.S)
    return unescape(re.sub(r"<[^>]+>", " ", found)).strip()


async def page(client: httpx.AsyncClient, job: NewJob) -> str:
    answer = await client.get(f"/jobs/{job.id}")
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_a_page_shows_the_lines_of_each_attempt_the_last_one_first(connect: Connect, logged: NewJob) -> None:
    text = await section(connect(role=Role.VIEW), logged)
    assert text.split() == [
        *(
            "Logs",
            "Attempt",
            "2",
            "·",
            "1",
            "line",
            "2026-03-04",
            "05:06:07.890",
            "INFO",
            "shop.mail",
            "to",
            "ann",
            "again",
        ),
        *("Attempt", "1", "·", "3", "lines", "2026-03-04", "05:06:07.890", "INFO", "shop.mail", "to", "ann"),
        *("2026-03-04", "05:06:08.890", "INFO", "shop.mail", "two", "lines"),
        *("2026-03-04", "05:06:07.890", "ERROR", "shop.mail", "no", "answer"),
    ]
    assert "two\nlines" in text


async def test_a_page_of_a_job_without_logs_has_no_such_section(connect: Connect, storage: MemoryQueueStorage) -> None:
    job = new_job()
    await storage.add([job])
    assert await section(connect(role=Role.VIEW), job) == ""


async def test_a_page_shows_the_last_lines_of_many_and_names_the_command_for_all(
    connect: Connect, storage: MemoryQueueStorage
) -> None:
    job = new_job()
    await storage.add([job])
    await storage.write_logs([part(job, 3, number, f"{number:04}" + "x" * 8000) for number in range(30)])
    text = await section(connect(role=Role.VIEW), job)
    shown = [int(number) for number in re.findall(r"shop\.mail +(\d{4})x", text)]
    assert shown == list(range(shown[0], 30))
    assert SHOWN_BYTES <= len(text) <= SHOWN_BYTES + 10_000
    assert f"jobq logs {job.id}" in text


async def lines(client: httpx.AsyncClient, job: NewJob, **query: Any) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/jobs/{job.id}/logs", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_the_api_pages_through_lines_and_follows_them(
    connect: Connect, logged: NewJob, storage: MemoryQueueStorage
) -> None:
    client = connect(role=Role.VIEW)
    all_ = await lines(client, logged)
    assert [line["message"] for line in all_["lines"]] == ["to ann", "two\nlines", "no answer", "to ann again"]
    assert (all_["first"], all_["last"], all_["hidden"]) == ("3.0", "7.0", False)
    assert all_["lines"][2] == {
        "at": "2026-03-04T05:06:07.890123Z",
        "attempt": 1,
        "lease": 3,
        "level": "ERROR",
        "logger": "shop.mail",
        "message": "no answer",
    }
    last = await lines(client, logged, limit=1)
    assert [line["message"] for line in last["lines"]] == ["to ann again"]
    earlier = await lines(client, logged, limit=1, before=last["first"])
    assert [line["message"] for line in earlier["lines"]] == ["no answer"]
    assert (await lines(client, logged, attempt=2))["lines"] == last["lines"]
    assert (await lines(client, logged, after=all_["last"]))["lines"] == []
    await storage.write_logs([part(logged, 7, 1, "sent", attempt=2)])
    assert [line["message"] for line in (await lines(client, logged, after=all_["last"]))["lines"]] == ["sent"]


async def test_the_api_refuses_malformed_places(connect: Connect, logged: NewJob) -> None:
    client = connect(role=Role.VIEW)
    for query in ({"after": "x"}, {"before": "1"}, {"before": f"{10**20}.0"}, {"attempt": "0"}, {"limit": "0"}):
        assert (await client.get(f"/api/v1/jobs/{logged.id}/logs", params=query)).status_code == 400
    assert (await client.get(f"/api/v1/jobs/{new_id()}/logs")).status_code == 404


async def test_a_role_that_sees_no_payloads_sees_no_logs(connect: Connect, logged: NewJob) -> None:
    client = connect(role=Role.VIEW, hide_payloads=["view"])
    assert "ann" not in await page(client, logged)
    assert "hidden" in (await section(client, logged)).lower()
    assert await lines(client, logged) == {"lines": [], "first": None, "last": None, "hidden": True}
    assert "ann" in await page(connect(role=Role.ADMIN, hide_payloads=["view"]), logged)
