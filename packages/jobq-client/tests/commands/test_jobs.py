"""Listing, showing and adding jobs by commands."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from jobq_client import JobQueueClient
from jobq_core import Secret, job
from jobq_core.parents import with_parent
from jobq_core.records import ErrorRecord
from jobq_core.states import Ending
from jobq_core.storage import QueueStorage
from jobq_core.testing import add_job, claim_one, register_worker, settle

from .conftest import Shell

ERROR = ErrorRecord(type="LookupError", message="no order 7\x1b[2J", traceback="Traceback …\nLookupError: no order 7")


async def seed(storage: QueueStorage) -> dict[str, UUID]:
    """Add a failed job, one that is delayed, and one that is pending in another queue."""
    worker = await register_worker(storage)
    failed = await add_job(storage, kind="noop", arguments=b'{"order_id":7}', tags=("monthly",))
    await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL, error=ERROR)
    delayed = await add_job(storage, kind="later", run_at=3600.0, run_id="import")
    pending = await add_job(storage, queue="mail", kind="send", priority=5)
    return {"failed": failed, "delayed": delayed, "pending": pending}


def ids(listed: Any) -> list[str]:
    return [job["id"] for job in listed["jobs"]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["pending", "delayed", "failed"]),
        (["--state", "failed"], ["failed"]),
        (["--state", "failed", "--state", "pending"], ["pending", "failed"]),
        (["--queue", "mail"], ["pending"]),
        (["--kind", "later"], ["delayed"]),
        (["--tag", "monthly"], ["failed"]),
        (["--run", "import"], ["delayed"]),
        (["--error", "NO ORDER"], ["failed"]),
        (["--error-type", "LookupError"], ["failed"]),
        (["--argument", "order_id=7"], ["failed"]),
        (["--argument", "order_id=8"], []),
        (["--since", "1h"], ["pending", "delayed", "failed"]),
        (["--until", "1h"], []),
        (["--since", "2999-01-01"], []),
    ],
)
def test_jobs_lists_those_that_match_newest_first(shell: Shell, options: list[str], expected: list[str]) -> None:
    made = shell.act(seed)
    assert ids(shell.json("jobs", *options)) == [str(made[name]) for name in expected]


def test_jobs_pages_by_the_last_id(shell: Shell) -> None:
    made = shell.act(seed)
    first = shell.json("jobs", "--limit", 2)
    assert first["next"] == str(made["delayed"])
    assert ids(shell.json("jobs", "--after", first["next"])) == [str(made["failed"])]
    assert f"--after {made['delayed']}" in shell.run("jobs", "--limit", 2).stderr


def test_jobs_shows_columns_without_control_characters(shell: Shell) -> None:
    shell.act(seed)
    shown = shell.run("jobs", "--state", "failed", "--columns", "kind,attempt,error").output
    assert shown == "kind  attempt  error\nnoop  1/10     LookupError: no order 7\\x1b[2J\n"
    assert "unknown column 'colour'" in shell.run("jobs", "--columns", "colour", code=2).output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--since", "yesterday"], "'yesterday' is not a time; expected 30m, 2h, 7d, or 2026-12-01T08:00"),
        (["--argument", "order_id"], "must be NAME=VALUE"),
        (["--after", "7"], "is not a job's id"),
        (["--queue", ""], "queue"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(shell: Shell, options: list[str], says: str) -> None:
    result = shell.run("jobs", *options, code=1 if options[0] == "--queue" else 2)
    assert says in result.output


def test_show_has_the_timeline_the_traceback_and_the_reason(shell: Shell) -> None:
    made = shell.act(seed)
    shown = shell.run("show", made["failed"]).output
    for part in ("in attempt 1 of 10, and is not retried", "Timeline", "added to queue default", "attempt 1 started"):
        assert part in shown
    assert "Traceback …\nLookupError: no order 7" in shown
    assert '{"order_id":7}' in shown
    assert "\x1b" not in shown


def test_show_as_json_has_the_whole_record(shell: Shell) -> None:
    made = shell.act(seed)
    shown = shell.json("show", made["failed"])
    assert shown["arguments"] == {"order_id": 7}
    assert shown["attempts"][0]["error"]["type"] == "LookupError"
    assert shown["why"]["code"] == "permanent-error"


def test_parent_and_children_are_shown_and_found(shell: Shell) -> None:
    parent = shell.act(seed)["failed"]

    async def add_child(storage: QueueStorage) -> UUID:
        return await add_job(storage, kind="alert", meta=with_parent(None, parent))

    child = shell.act(add_child)
    assert shell.json("show", child)["parent"] == str(parent)
    assert f"added by   {parent}" in shell.run("show", child).output
    assert shell.json("show", parent)["children"] == [{"id": str(child), "kind": "alert", "state": "pending"}]
    shown = shell.run("show", parent).output
    assert f"{child}  alert  pending" in shown.partition("\nChildren\n")[2]
    assert ids(shell.json("jobs", "--parent", parent)) == [str(child)]
    assert shell.run("abort", "--parent", parent, "--dry-run").output == f"1 jobs added by job {parent}\n"


def test_show_hides_the_payload_when_told(shell: Shell) -> None:
    made = shell.act(seed)
    assert "order_id" not in shell.run("show", made["failed"], "--hide-payload").output
    assert "arguments" not in shell.json("show", made["failed"], "--hide-payload")


@pytest.mark.parametrize("command", ["show", "why", "wait"])
def test_a_job_that_does_not_exist_exits_with_3(shell: Shell, command: str) -> None:
    missing = uuid4()
    assert str(missing) in shell.run(command, missing, code=3).output


def test_why_says_one_sentence(shell: Shell) -> None:
    made = shell.act(seed)
    assert shell.run("why", made["pending"]).output == "no live worker serves queue 'mail'\n"
    assert shell.json("why", made["delayed"])["code"] == "delayed"


def test_add_adds_a_job_of_a_kind_with_its_options(shell: Shell) -> None:
    options = ("--queue", "mail", "--priority", -5, "--tag", "a", "--tag", "b", "--run", "r", "--max-attempts", 3)
    added = shell.run("add", "send", "--arguments", '{"to": "é"}', *options).output.strip()
    shown = shell.json("show", added)
    assert (shown["kind"], shown["queue"], shown["priority"], shown["max_attempts"]) == ("send", "mail", -5, 3)
    assert (shown["arguments"], shown["tags"], shown["run_id"], shown["state"]) == (
        {"to": "é"},
        ["a", "b"],
        "r",
        "pending",
    )
    assert [(entry["action"], entry["target"]) for entry in shell.json("audit")] == [("add", added)]


def test_add_waits_for_a_time_ahead(shell: Shell) -> None:
    added = shell.run("add", "send", "--run-at", "30m").output.strip()
    assert shell.json("show", added)["state"] == "scheduled"


def test_add_with_a_key_that_is_taken_prints_the_job_that_has_it(shell: Shell) -> None:
    first = shell.run("add", "send", "--unique", "k").output.strip()
    second = shell.run("add", "send", "--unique", "k", code=4)
    assert second.stdout.strip() == first
    assert "Not added" in second.stderr


@pytest.mark.parametrize(
    ("arguments", "says"), [("{", "not valid JSON"), ("[1]", "must be a JSON object"), ('{"a": 1e999}', "JSON")]
)
def test_add_refuses_arguments_that_are_not_a_json_object(shell: Shell, arguments: str, says: str) -> None:
    assert says in shell.run("add", "send", "--arguments", arguments, code=1).output
    assert ids(shell.json("jobs")) == []


def test_wait_prints_the_result_of_a_completed_job(shell: Shell) -> None:
    async def complete(storage: QueueStorage) -> UUID:
        worker = await register_worker(storage)
        job = await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker), result=b'{"pages": 12345678901234567890}')
        return job

    assert '"pages": 12345678901234567890' in shell.run("wait", shell.act(complete)).output


def test_wait_exits_with_4_for_a_failed_job_and_after_the_timeout(shell: Shell) -> None:
    made = shell.act(seed)
    failed = shell.run("wait", made["failed"], code=4)
    assert "is failed: LookupError: no order 7\\x1b[2J" in failed.stderr
    assert "Error" in shell.run("wait", made["pending"], "--timeout", 0, code=4).stderr


@job
async def charge(order_id: int, pin: Secret[str]) -> None: ...


def test_show_masks_secrets_whose_declaration_it_does_not_know(shell: Shell) -> None:
    async def add(storage: QueueStorage) -> UUID:
        async with JobQueueClient(storage) as client:
            return (await client.add(charge(7, Secret("4711")), headers={"auth_token": "4712", "tenant": "x"})).id

    job_id = shell.act(add)
    for shown in (shell.run("show", job_id).output, shell.run("show", job_id, "--json").output):
        assert "***" in shown
        assert "tenant" in shown
        assert "471" not in shown.replace(str(job_id), "")
