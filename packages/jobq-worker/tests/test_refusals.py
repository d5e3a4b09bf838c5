"""Jobs that a worker cannot take: they wait, BLOCKED, for a worker that can, and stand in nobody's way."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from jobq_core import InvalidJobError, JobCompleted, JobFailed, JobState, job, register_type
from jobq_core.storage import UNFIT_ARGUMENTS, UNKNOWN_KIND
from jobq_worker.claiming.refusals import MOST_KINDS, OTHERS, Refusals

from .kit import Endings, add, add_many, ending, record, until, working
from .probe import Probe


@job()
async def known() -> None: ...


@job()
async def foreign(n: int = 0) -> int:
    return n


def pay(amount: type) -> Any:
    """Return one of two declarations of the same kind."""
    if amount is int:

        @job(name="pay")
        async def pay_number(amount: int) -> str:
            return f"{amount!r}"

        return pay_number

    @job(name="pay")
    async def pay_text(amount: str) -> str:
        return f"{amount!r}"

    return pay_text


async def test_a_job_of_an_unknown_kind_waits_for_a_worker_that_knows_it(storage: Probe) -> None:
    async with working(storage, known, name="plain") as worker:
        job_id = await add(storage, foreign(5))
        await until(lambda: worker.pool_stats().total.suspended)
        assert worker.pool_stats().total.unknown_kinds == {"foreign": 1}
        assert worker.health().refused_kinds == ("foreign",)
        assert isinstance(await ending(worker, storage, known()), JobCompleted)  # and crashes nobody
        found = await record(storage, job_id)
        assert (found.state, found.reason, found.attempt) == (JobState.BLOCKED, UNKNOWN_KIND, 0)
        assert found.run_at is None
        async with working(storage, foreign, name="knows") as other:
            assert isinstance(await Endings(other).of(job_id), JobCompleted)


async def test_a_worker_that_knows_the_kind_takes_what_another_has_blocked_at_once(storage: Probe) -> None:
    # Without polls: a notification says that the job is blocked.
    async with working(storage, foreign, concurrency=0, poll_interval=600) as knows:
        async with working(storage, known, poll_interval=600) as plain:
            endings = Endings(knows)
            ids = await add_many(storage, [foreign(n) for n in range(50)])
            await until(lambda: plain.pool_stats().total.suspended == 50)
            knows.resize(3)
            assert all(isinstance(event, JobCompleted) for event in await endings.all(ids))
    for job_id in ids:
        assert (await record(storage, job_id)).attempt == 1


async def test_a_poll_finds_blocked_jobs_that_nothing_announced(storage: Probe) -> None:
    job_id = await add(storage, foreign())
    async with working(storage, known) as plain:
        await until(lambda: plain.pool_stats().total.suspended)
    storage.silent = True
    async with working(storage, foreign, poll_interval=0.01) as knows:
        assert isinstance(await Endings(knows).of(job_id), JobCompleted)


async def test_known_jobs_behind_twenty_thousand_unknown_ones_start_soon(storage: Probe) -> None:
    await add_many(storage, [foreign(n) for n in range(20_000)])
    async with working(storage, known, concurrency=1, poll_interval=600) as worker:
        assert isinstance(await ending(worker, storage, known()), JobCompleted)
        assert storage.calls["settle_and_claim"] < 40
        assert worker.pool_stats().total.suspended == 20_000


async def test_arguments_that_do_not_fit_cost_no_attempt_and_wait_for_a_declaration_that_takes_them(
    storage: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    old, new = pay(int), pay(str)
    async with working(storage, new, known, poll_interval=0.01) as worker:
        ids = await add_many(storage, [old(amount=5), old(amount=6)], max_attempts=1)
        await until(lambda: worker.pool_stats().total.suspended == 2)
        assert isinstance(await ending(worker, storage, new(amount="7")), JobCompleted)
        polls = storage.calls["settle_and_claim"]
        await until(lambda: storage.calls["settle_and_claim"] > polls + 3)
        assert worker.pool_stats().total.suspended == 2  # its own claims leave them
        assert worker.pool_stats().total.unfit_kinds == {"pay": 2}
        assert worker.health().refused_kinds == ("pay",)
        found = await record(storage, ids[0])
        assert (found.state, found.reason, found.attempt) == (JobState.BLOCKED, UNFIT_ARGUMENTS, 0)
        assert found.attempts == ()
        async with working(storage, old, name="old") as other:
            events = await Endings(other).all(ids)
            assert [event.result_json for event in events if isinstance(event, JobCompleted)] == [b'"5"', b'"6"']
    assert len(caplog.records) == 1
    assert "the arguments of a job of kind 'pay' do not fit" in caplog.text


async def test_a_handler_that_raises_the_error_of_unfit_arguments_fails(storage: Probe) -> None:
    @job(name="confused", max_attempts=1)
    async def confused() -> None:
        raise InvalidJobError("the arguments do not fit: of a job that the handler adds")

    async with working(storage, confused) as worker:
        assert isinstance(await ending(worker, storage, confused()), JobFailed)


class Moody:
    """A type whose decoding fails in a way of its own."""


def _moody(_: object) -> Moody:
    raise KeyboardInterrupt


register_type(Moody, encode=lambda _: "moody", decode=_moody)


class Shy:
    """A type whose encoding fails in a way of its own."""


def _shy(_: Shy) -> str:
    raise SystemExit("no form")


register_type(Shy, encode=_shy, decode=lambda _: Shy())


@pytest.mark.parametrize("nature", ["async", "thread"])
async def test_a_result_whose_encoding_fails_says_that_the_handler_completed(storage: Probe, nature: str) -> None:
    @job(name="shy")
    async def in_loop() -> Shy:
        return Shy()

    @job(name="shy")
    def in_thread() -> Shy:
        return Shy()

    shy: Any = in_loop if nature == "async" else in_thread
    async with working(storage, shy) as worker:
        event = await ending(worker, storage, shy())
    assert isinstance(event, JobFailed)  # and not retried: its work is done
    assert event.error is not None
    assert event.error.message == "the handler completed, but its result cannot be stored: SystemExit: no form"


async def test_a_type_whose_decoding_fails_otherwise_fails_the_job_and_not_the_worker(storage: Probe) -> None:
    @job(name="moody", max_attempts=1)
    async def text(mood: str) -> None: ...

    @job(name="moody", max_attempts=1)
    async def moody(mood: Moody) -> None: ...

    async with working(storage, moody, known) as worker:
        endings = Endings(worker)
        job_id = await add(storage, text(mood="moody"))
        event = await endings.of(job_id)
        assert isinstance(event, JobFailed)
        assert event.error is not None
        assert event.error.type == "KeyboardInterrupt"
        assert isinstance(await ending(worker, storage, known()), JobCompleted)


async def test_the_statistics_that_the_storage_has_show_them_too(storage: Probe) -> None:
    async with working(storage, known, heartbeat_interval=0.01) as worker:
        await add_many(storage, [foreign(), foreign()])
        await until(lambda: worker.pool_stats().total.unknown_kinds.get("foreign") == 2)
        beats = storage.beats
        await until(lambda: storage.beats > beats + 1)
        [registered] = await storage.workers()
        assert registered.stats.unknown_kinds == {"foreign": 2}


def test_at_most_a_hundred_kinds_are_counted_and_logged_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    counts: dict[str, int] = {}
    refusals = Refusals(counts, {})
    for n in range(5000):
        refusals.count_unknown(f"kind {n % 1000}")
    assert len(counts) == MOST_KINDS + 1
    assert counts["kind 0"] == 5
    assert sum(counts.values()) == 5000
    assert counts[OTHERS] == 5 * (1000 - MOST_KINDS)
    assert len(caplog.records) == MOST_KINDS
