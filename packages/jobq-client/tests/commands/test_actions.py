"""Changing jobs by commands."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from jobq_core.masking import MASK
from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import JobRecord
from jobq_core.states import Ending, JobState
from jobq_core.storage import Change, QueueStorage
from jobq_core.testing import ERROR, add_job, claim_one, register_worker, settle

from .conftest import Shell

S = JobState


async def add_several(storage: QueueStorage, count: int = 5) -> list[UUID]:
    return [await add_job(storage) for _ in range(count)]


async def fail_several(storage: QueueStorage, count: int = 5) -> list[UUID]:
    worker = await register_worker(storage)
    failed = []
    for _ in range(count):
        failed.append(await add_job(storage))
        await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL, error=ERROR)
    return failed


def records(shell: Shell, jobs: list[UUID]) -> list[JobRecord | None]:
    async def get(storage: QueueStorage) -> list[JobRecord | None]:
        return await storage.get(jobs)

    return shell.act(get)


def states(shell: Shell, jobs: list[UUID]) -> list[JobState | None]:
    return [None if record is None else record.state for record in records(shell, jobs)]


def test_jobs_are_changed_by_their_ids_and_each_has_a_line(shell: Shell) -> None:
    one, two, three = shell.act(lambda storage: add_several(storage, 3))
    assert shell.run("abort", one, two).output == f"{one}  pending → aborted\n{two}  pending → aborted\n"
    assert states(shell, [one, two, three]) == [S.ABORTED, S.ABORTED, S.PENDING]
    assert shell.run("abort", one, code=4).output == f"{one}  not changed: it is aborted\n"
    assert "no such job" in shell.run("abort", uuid4(), code=3).output


@pytest.mark.parametrize(
    ("words", "after"),
    [
        (["abort"], S.ABORTED),
        (["disable"], S.DISABLED),
        (["delete"], None),
        (["reschedule", "--to", "2h"], S.SCHEDULED),
        (["move", "--to", "mail"], S.PENDING),
        (["priority", "--to", 7], S.PENDING),
    ],
)
def test_each_action_changes_all_that_match(shell: Shell, words: list[object], after: JobState | None) -> None:
    jobs = shell.act(add_several)
    said = shell.run(*words, "--kind", "noop", "--yes")
    assert "done: 5 of 5 jobs changed" in said.output
    assert states(shell, jobs) == [after] * 5
    if words[0] == "move":
        assert {record.queue for record in records(shell, jobs) if record} == {"mail"}
    if words[0] == "priority":
        assert {record.priority for record in records(shell, jobs) if record} == {7}


def test_jobs_go_back_by_retry_enable_and_run_now(shell: Shell) -> None:
    failed = shell.act(fail_several)
    shell.run("retry", "--state", "failed", "--yes")
    assert states(shell, failed) == [S.PENDING] * 5
    shell.run("disable", *failed)
    shell.run("enable", "--state", "disabled", "--yes")
    shell.run("reschedule", "--to", "2h", *failed)
    assert states(shell, failed) == [S.SCHEDULED] * 5
    shell.run("run-now", *failed)
    assert states(shell, failed) == [S.PENDING] * 5


def test_a_filter_is_counted_and_asked_about_first(shell: Shell) -> None:
    jobs = shell.act(add_several)
    assert shell.run("abort", "--state", "pending", "--dry-run").output == "5 pending jobs\n"
    declined = shell.run("abort", "--state", "pending", input="n\n", code=2)
    assert "abort: 5 pending jobs. Continue?" in declined.output
    assert "nothing was changed" in declined.output
    assert states(shell, jobs) == [S.PENDING] * 5
    shell.run("abort", "--state", "pending", input="y\n")
    assert states(shell, jobs) == [S.ABORTED] * 5


def test_with_json_nothing_is_asked_and_yes_is_needed(shell: Shell) -> None:
    jobs = shell.act(add_several)
    shell.run("abort", "--state", "pending", "--json", code=2)
    assert states(shell, jobs) == [S.PENDING] * 5
    assert shell.json("abort", "--state", "pending", "--dry-run") == {"matched": 5}
    done = shell.json("abort", "--state", "pending", "--yes")
    assert (done["state"], done["done"], done["changed"], done["matched"]) == ("done", 5, 5, 5)


def test_nothing_that_matches_exits_with_4(shell: Shell) -> None:
    assert "There are no failed jobs" in shell.run("retry", "--state", "failed", "--yes", code=4).stderr


def test_ids_or_a_filter_must_be_given_and_not_both(shell: Shell) -> None:
    assert "give ids, or a filter" in shell.run("abort", code=2).output
    assert "not both" in shell.run("abort", uuid4(), "--queue", "mail", code=2).output


def test_what_was_done_is_in_the_audit(shell: Shell) -> None:
    one, *_ = shell.act(add_several)
    shell.run("abort", one, "--actor", "kai")
    [entry] = shell.json("audit", "--target", one)
    assert (entry["actor"], entry["action"], entry["target"]) == ("kai", "abort", str(one))
    assert "kai" in shell.run("audit").output
    assert "it was aborted by kai" in shell.run("why", one).output


def test_a_bulk_operation_is_in_the_audit_without_the_argument_that_it_looked_for(shell: Shell) -> None:
    shell.act(lambda storage: add_job(storage, arguments=b'{"card":4111}'))
    shell.run("abort", "--argument", "card=4111", "--yes", "--actor", "kai")
    [operation] = shell.json("operations")
    [entry] = shell.json("audit")
    assert (entry["actor"], entry["action"], entry["target"]) == ("kai", "abort", operation["id"])
    assert entry["details"] == f"jobs with card={MASK!r}"


def test_a_job_that_a_bulk_operation_changed_says_which_and_by_whom(shell: Shell) -> None:
    one, *_ = shell.act(add_several)
    shell.run("disable", "--kind", "noop", "--yes", "--actor", "kai")
    [operation] = shell.json("operations")
    named = shell.run("why", one).output
    assert named.startswith("it was disabled by kai at ")
    assert f" (operation {operation['id']}); to let it run: " in named
    assert f"disable by kai, operation {operation['id']}" in shell.run("show", one).output
    assert shell.json("show", one)["audit"][0]["details"] == {"operation": operation["id"]}


def test_a_bulk_operation_is_listed_and_a_done_one_is_not_cancelled(shell: Shell) -> None:
    shell.act(add_several)
    shell.run("disable", "--kind", "noop", "--yes", "--actor", "kai")
    [operation] = shell.json("operations")
    assert (operation["action"], operation["actor"], operation["state"]) == ("disable", "kai", "done")
    assert "jobs of kind noop" in shell.run("operations").output
    shell.run("operations", "cancel", operation["id"], code=4)
    shell.run("operations", "resume", operation["id"])
    shell.run("operations", "cancel", uuid4(), code=3)


def test_an_operation_that_another_operator_cancels_meanwhile_exits_with_4(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    disable = MemoryQueueStorage.disable

    async def disable_and_cancel(storage: MemoryQueueStorage, ids: Sequence[UUID]) -> list[Change]:
        [operation] = await storage.operations()
        await storage.cancel_operation(operation.id)
        return await disable(storage, ids)

    shell.act(add_several)
    monkeypatch.setattr(MemoryQueueStorage, "disable", disable_and_cancel)
    assert shell.run("disable", "--kind", "noop", "--yes", code=4).stdout == "cancelled: 5 of 5 jobs changed\n"
    [operation] = shell.json("operations")
    shell.run("operations", "resume", operation["id"], code=4)


def test_purge_deletes_finished_jobs_and_keeps_the_others(shell: Shell) -> None:
    failed = shell.act(fail_several)
    pending = shell.act(lambda storage: add_several(storage, 1))
    assert shell.run("purge", "default", "--dry-run").output.startswith("5 ")
    shell.run("purge", "default", "--state", "completed", "--yes", code=4)
    shell.run("purge", "default", "--yes")
    assert states(shell, [*failed, *pending]) == [None] * 5 + [S.PENDING]
