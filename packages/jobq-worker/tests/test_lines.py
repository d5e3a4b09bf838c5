"""Which queues a worker asks: those that may have jobs, in turns, and all of them at each poll."""

from __future__ import annotations

from typing import cast
from uuid import uuid4

from jobq_core import JobCompleted, job
from jobq_core.storage import ClaimedJob
from jobq_worker.claiming.lines import MOST, Lines

from .kit import Endings, add, add_many, working
from .probe import Probe


@job()
async def quick(n: int = 0) -> int:
    return n


def of(*queues: str) -> list[ClaimedJob]:
    return [ClaimedJob(uuid4(), 1, queue, "quick", b"{}", 1, 10) for queue in queues]


def test_all_queues_are_asked_at_first_and_then_only_those_that_were_notified() -> None:
    lines = Lines(["a", "b", "c"])
    assert lines.next() == ("a", "b", "c")
    assert not lines.may_have_jobs
    lines.notify("b")
    assert lines.next() == ("b",)
    lines.notify_all()
    assert set(lines.next()) == {"a", "b", "c"}


def test_a_queue_that_may_have_more_is_asked_after_those_that_were_not_looked_at() -> None:
    lines = Lines(["a", "b", "c", "d"])
    asked = lines.next()
    lines.notify("a")  # while the claim was under way
    lines.filled(asked, of("a", "b"), ())
    assert lines.next() == ("c", "d", "a", "b")


def test_a_claim_that_brought_nothing_though_it_was_filled_leaves_all_queues() -> None:
    lines = Lines(["a", "b"])
    lines.filled(lines.next(), [], ())
    assert lines.next() == ("a", "b")


def test_a_paused_queue_is_left_to_the_next_poll() -> None:
    lines = Lines(["a", "b", "c"])
    lines.filled(lines.next(), of("a"), ("b",))
    assert lines.next() == ("c", "a")


def test_queues_that_were_not_asked_after_all_come_first() -> None:
    lines = Lines(["a", "b", "c"])
    asked = lines.next()
    lines.notify("b")
    lines.notify("a")
    lines.put_back(asked)
    assert lines.next() == ("a", "b", "c")


def test_each_of_many_deep_queues_gets_its_turn_and_the_one_that_has_jobs_is_in_each_claim() -> None:
    queues = [str(n) for n in range(1000)]
    lines = Lines(queues)
    deep = {"3", "500", "999"}
    turns = dict.fromkeys(deep, 0)
    asked_at_all: list[int] = []
    for _ in range(100):
        asked = lines.next()
        asked_at_all.append(len(asked))
        found = next((queue for queue in asked if queue in deep), None)
        assert found is not None
        turns[found] += 1
        lines.filled(asked, of(found), ())
    assert asked_at_all[0] == 1000
    assert max(asked_at_all[1:]) <= MOST
    assert asked_at_all[-1] == len(deep)
    assert max(turns.values()) - min(turns.values()) <= 1000 // MOST + 1


async def test_a_worker_of_many_queues_claims_from_few(storage: Probe) -> None:
    queues = [f"tenant {n}" for n in range(1000)]
    async with working(storage, quick, queues=queues, poll_interval=600) as worker:
        await storage.called("promote")
        endings = Endings(worker)
        before = len(storage.arguments["settle_and_claim"])
        for n in range(20):
            assert isinstance(await endings.of(await add(storage, quick(n), queue=queues[n * 37])), JobCompleted)
        ids = []
        for n in range(10):
            ids += await add_many(storage, [quick() for _ in range(100)], queue=queues[n])
        await endings.all(ids)
    asked = [cast("object", args[2]) for args in storage.arguments["settle_and_claim"][before:] if len(args) > 2]
    numbers = [len(claim.lines) for claim in asked if claim is not None]  # type: ignore[attr-defined]
    assert numbers
    assert sum(number > MOST for number in numbers) <= 2  # as it starts, and as its subscription begins


async def test_jobs_that_were_there_before_the_worker_are_found_in_each_of_many_queues(storage: Probe) -> None:
    queues = [f"tenant {n}" for n in range(300)]
    ids = []
    for queue in queues:
        ids += await add_many(storage, [quick(), quick()], queue=queue)
    async with working(storage, quick, queues=queues, poll_interval=600, concurrency=2) as worker:
        await Endings(worker).all(ids)
