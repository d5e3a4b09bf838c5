"""`jobq logs`: the lines of a job, once or until its end."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from jobq_core.logs import log_storage
from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import WorkerInfo
from jobq_core.storage import ClaimedJob, LogLine, LogPart, QueueStorage
from jobq_core.testing import add_job, claim_one, register_worker, settle

from .conftest import Shell

AT = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)


async def write(storage: QueueStorage, job: UUID, lease: int, number: int, *messages: str, attempt: int = 1) -> None:
    lines = tuple(LogLine(AT, "INFO", "shop.mail", message) for message in messages)
    part = LogPart(job=job, lease=lease, attempt=attempt, part=number, lines=lines)
    await log_storage(storage).write_logs([part])


async def seed(storage: QueueStorage) -> UUID:
    job = await add_job(storage)
    await storage.abort([job])
    await write(storage, job, 3, 0, "to \x1b[31mann", "two\nlines")
    await write(storage, job, 5, 0, "again", attempt=2)
    return job


def test_lines_are_shown_by_attempt_without_control_characters(shell: Shell) -> None:
    job = shell.act(seed)
    at = "2026-03-04 05:06:07.890 INFO shop.mail:"
    second = f"Attempt 2 (times in UTC)\n{at} again\n"
    assert shell.run("logs", job).output == (
        f"Attempt 1 (times in UTC)\n{at} to \\x1b[31mann\n{at} two\nlines\n{second}"
    )
    assert shell.run("logs", job, "--attempt", 2).output == second
    assert shell.run("logs", job, "--follow").output == shell.run("logs", job).output, "it is over"


def test_lines_as_json_have_their_attempt(shell: Shell) -> None:
    job = shell.act(seed)
    lines = shell.json("logs", job)
    assert [(line["attempt"], line["lease"], line["message"]) for line in lines] == [
        (1, 3, "to \x1b[31mann"),
        (1, 3, "two\nlines"),
        (2, 5, "again"),
    ]
    assert lines[0]["at"] == "2026-03-04T05:06:07.890123Z"
    followed = shell.run("logs", job, "--follow", "--json").stdout
    assert [json.loads(line) for line in followed.splitlines()] == lines


def test_show_says_that_there_are_logs(shell: Shell) -> None:
    job = shell.act(seed)
    assert f"jobq logs {job}" in shell.run("show", job).output
    assert shell.json("show", job)["has_logs"] is True
    quiet = shell.act(add_job)
    assert "jobq logs" not in shell.run("show", quiet).output
    assert shell.json("show", quiet)["has_logs"] is False


def test_a_job_without_logs_says_how_they_are_kept(shell: Shell) -> None:
    job = shell.act(add_job)
    result = shell.run("logs", job)
    assert (result.stdout, "--keep-logs" in result.stderr) == ("", True)
    assert shell.json("logs", job) == []
    assert str(missing := uuid4()) in shell.run("logs", missing, code=3).output


def test_follow_shows_new_lines_until_the_job_is_over(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(storage: QueueStorage) -> tuple[WorkerInfo, ClaimedJob]:
        worker = await register_worker(storage)
        await add_job(storage)
        claimed = await claim_one(storage, worker)
        await write(storage, claimed.id, claimed.lease, 0, "begun")
        return worker, claimed

    worker, claimed = shell.act(start)
    looks = 0

    async def go_on(_seconds: float) -> None:
        nonlocal looks
        looks += 1
        async with MemoryQueueStorage(shell.name) as storage:
            await write(storage, claimed.id, claimed.lease, looks, f"look {looks}")
            if looks == 2:
                await settle(storage, worker, claimed)

    monkeypatch.setattr(asyncio, "sleep", go_on)
    shown = shell.run("logs", claimed.id, "--follow").output.splitlines()
    assert [line.rpartition(": ")[2] for line in shown] == ["Attempt 1 (times in UTC)", "begun", "look 1", "look 2"]
