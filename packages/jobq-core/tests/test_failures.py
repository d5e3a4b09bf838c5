"""Failed jobs grouped by their error."""

from __future__ import annotations

import pytest

from jobq_core.failures import failures, fingerprint
from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import ErrorRecord
from jobq_core.states import Ending
from jobq_core.testing import add_job, claim, claim_one, new_job, register_worker, settle


def of(message: str, type: str = "ValueError", kind: str = "send") -> str:
    return fingerprint(kind, ErrorRecord(type=type, message=message))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order 7 not found", "order 1234 not found"),
        ("no user 'kai'", "no user 'eva'"),
        ('no user "kai"', 'no user "eva"'),
        ("timed out after 3.5 s at 10.0.0.1:80", "timed out after 30 s at 10.0.0.27:443"),
        ("job 0198c0de-0000-7000-8000-000000000000", "job 0198c0de-0000-7000-8000-0000000000ff"),
        ("<object at 0x7f3a>", "<object at 0x1b2c>"),
        ("commit 3f786850e387550fdab836ed7e6dc881de23001b", "commit 89e6c98d92887913cadf06b2adb97f26cde4849b"),
    ],
)
def test_messages_that_differ_in_numbers_ids_and_quoted_text_are_alike(one: str, other: str) -> None:
    assert of(one) == of(other)


def test_other_words_types_and_kinds_are_not_alike() -> None:
    different = {of("a is full"), of("b is full"), of("a is full", "OSError"), of("a is full", kind="resize")}
    assert len(different) == 4
    assert fingerprint("send", None) not in different


def test_an_apostrophe_within_a_word_quotes_nothing() -> None:
    assert of("can't open: it's full") != of("can't open: it's gone")
    assert of("can't open 'a': it's full") == of("can't open 'b': it's full")


async def test_a_queue_of_more_failed_jobs_than_a_page_is_read_page_by_page() -> None:
    async with MemoryQueueStorage() as storage:
        worker = await register_worker(storage)
        await storage.add([new_job(max_attempts=1) for _ in range(1_200)])
        error = ErrorRecord(type="OSError", message="disk full")
        for claimed in await claim(storage, worker, 1_200):
            await settle(storage, worker, claimed, Ending.FAIL, error=error)
        assert [group.jobs for group in await failures(storage, newest=2_000)] == [1_200]
        assert [group.jobs for group in await failures(storage)] == [1_000]
        assert [group.jobs for group in await failures(storage, newest=1_100)] == [1_100]


async def test_a_job_that_failed_without_an_error_has_a_group() -> None:
    async with MemoryQueueStorage() as storage:
        worker = await register_worker(storage)
        await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL)
        [group] = await failures(storage)
        assert (group.type, group.message, group.jobs) == ("", "", 1)


def test_words_that_look_like_hexadecimal_digits_are_kept() -> None:
    assert of("deadbeefdeadbeef") != of("feedfacefeedface")  # letters alone: words


async def test_the_newest_failed_jobs_are_grouped_and_the_largest_group_comes_first() -> None:
    async with MemoryQueueStorage() as storage:
        worker = await register_worker(storage)
        for message in ("no order 1", "disk full", "no order 2", "no order 3"):
            last = await add_job(storage)
            error = ErrorRecord(type="LookupError", message=message)
            await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL, error=error)
        large, small = await failures(storage)
        assert (large.jobs, large.message, large.newest_job) == (3, "no order 3", last)
        assert (small.jobs, small.message, small.type) == (1, "disk full", "LookupError")
        assert large.first is not None
        assert large.last is not None
        assert large.first <= large.last
        assert [group.jobs for group in await failures(storage, newest=2)] == [2]
        assert await failures(storage, queue="other") == []
