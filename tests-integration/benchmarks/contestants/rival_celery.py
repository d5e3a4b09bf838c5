# /// script
# requires-python = ">=3.11"
# dependencies = ["celery[redis]==5.7.0", "kombu==5.7.0", "redis==8.1.0"]
# ///
"""Celery on Redis, with its pool of forked processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from calling import CallingAdder, handlers
from celery import Celery
from protocol import Adder, Contestant, Tally, main


class Jobs:
    """A Celery application with the jobs of the benchmarks; options: see `CeleryRival.settings`."""

    def __init__(self, url: str, options: dict[str, Any], tally: Tally | None = None, sleep: float = 0.0) -> None:
        self.app = Celery("bench", broker=url, backend=url)
        self.app.conf.update(
            task_acks_late=options.get("acks_late", False),
            worker_prefetch_multiplier=options.get("prefetch", 64),
            worker_enable_remote_control=False,
            worker_hijack_root_logger=False,
            broker_connection_retry_on_startup=True,
        )
        nothing, answer, stamp = handlers(tally, sleep)
        keeps_none = not options.get("results", False)
        self.nothing = self.app.task(name="nothing", ignore_result=keeps_none)(nothing)
        self.answer = self.app.task(name="answer", ignore_result=False)(answer)
        self.stamp = self.app.task(name="stamp", ignore_result=keeps_none)(stamp)

    def result(self, n: int, text: str) -> int:
        """Add a job and wait for its result."""
        found: int = self.answer.delay(n, text).get(timeout=60)
        return found


class CeleryRival(Contestant):
    """Celery: a parent that fetches, and forked processes that run, or one process that does both.

    settings: `pool` ('prefork' or 'solo'), `concurrency` forked processes, `prefetch` jobs for each, `acks_late`
    whether a job is acknowledged after its run, `results` whether those of all jobs are stored.
    """

    name = "celery"
    packages = ("celery", "kombu", "redis")
    can = Contestant.can | {"ask"}
    storages = ("redis",)
    imports: ClassVar[dict[str, str]] = {"redis": "from celery import Celery"}
    settings: ClassVar[dict[str, list[dict[str, Any]]]] = {
        "work": [
            {"concurrency": 1, "prefetch": 64},
            {"concurrency": 2, "prefetch": 64, "acks_late": True},
            {"pool": "solo", "prefetch": 64},
        ]
    }
    caveats: ClassVar[Sequence[str]] = (
        "Without `acks_late` a job is acknowledged when a process accepts it: a worker that is killed loses it.",
        "No results and no history are kept, except of the job that `ask` waits for.",
        "On Redis a job is acknowledged from memory; what a crash loses is up to the server's appendfsync.",
        "One worker command is a parent that fetches and `concurrency` forks that run; `solo` is a single process.",
        "Jobs for later are fetched at once and held in a worker's memory until they are due.",
        "Its own monitoring (gossip, mingle, heartbeats, remote control) is off, which makes it faster.",
    )

    def setup(self) -> None:
        """Remove what is left in Redis."""
        Jobs(self.url, self.options).app.control.purge()

    def fill(self, jobs: int, payload: int, delay: float, higher: bool) -> None:
        """Add in batches."""
        if higher:
            raise NotImplementedError("on Redis, Celery's jobs have the highest priority unless they are given another")
        made = Jobs(self.url, self.options)
        text = "x" * payload
        options: dict[str, Any] = {"countdown": delay} if delay else {}
        with made.app.producer_or_acquire() as producer, producer.batch():
            for n in range(jobs):
                made.nothing.apply_async((n, text), producer=producer, **options)

    def work(self) -> None:
        """Serve with a worker; SIGTERM lets running jobs end."""
        made = Jobs(self.url, self.options, self.tally, self.sleep)
        pool = ["--pool", self.options.get("pool", "prefork"), "--concurrency", str(self.options.get("concurrency", 1))]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]
        try:
            made.app.worker_main(["worker", *pool, *quiet])
        except SystemExit as end:
            if end.code:
                raise

    def adder(self, payload: int) -> Adder:
        """Add by calling tasks."""
        return CeleryAdder(Jobs(self.url, self.options), "x" * payload)


class CeleryAdder(CallingAdder):
    """Calls tasks."""

    def __init__(self, jobs: Jobs, text: str) -> None:
        super().__init__(text, add=jobs.nothing.delay, result=jobs.result, stamp=jobs.stamp.delay)
        self.jobs = jobs
        self.text = text

    async def many(self, count: int) -> None:
        """Add a batch in one pipeline."""
        with self.jobs.app.producer_or_acquire() as producer, producer.batch(max_size=count):
            for n in range(count):
                self.jobs.nothing.apply_async((n, self.text), producer=producer)


if __name__ == "__main__":
    main(CeleryRival)
