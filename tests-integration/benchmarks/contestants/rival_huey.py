# /// script
# requires-python = ">=3.11"
# dependencies = ["huey==3.5.4", "redis==8.1.0"]
# ///
"""huey on Redis, or on SQLite with every transaction on the disk before it is acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from calling import CallingAdder, handlers
from huey import Huey, RedisHuey, SqliteHuey
from protocol import Adder, Contestant, Tally, main

NAME = "bench"


class Jobs:
    """A huey with the jobs of the benchmarks."""

    def __init__(self, url: str, tally: Tally | None = None, sleep: float = 0.0) -> None:
        if url.startswith("sqlite:///"):
            self.huey: Huey = SqliteHuey(NAME, filename=url.removeprefix("sqlite:///"), fsync=True)
        else:
            self.huey = RedisHuey(NAME, url=url, notify_result=True)
        nothing, answer, stamp = handlers(tally, sleep)
        self.nothing = self.huey.task()(nothing)
        self.answer = self.huey.task()(answer)
        self.stamp = self.huey.task()(stamp)

    def result(self, n: int, text: str) -> int:
        """Add a job and wait for its result."""
        found: int = self.answer(n, text).get(blocking=True, timeout=60)
        return found


class HueyRival(Contestant):
    """huey: its consumer, with threads or forked processes."""

    name = "huey"
    packages = ("huey", "redis")
    can = frozenset({"fill", "work", "add", "group", "submit", "ask"})
    storages = ("redis", "sqlite")
    imports: ClassVar[dict[str, str]] = {"redis": "from huey import RedisHuey", "sqlite": "from huey import SqliteHuey"}
    settings: ClassVar[dict[str, list[dict[str, Any]]]] = {
        "work": [
            {"worker_type": "thread", "workers": 1},
            {"worker_type": "process", "workers": 1},
            {"worker_type": "process", "workers": 2},
            {"worker_type": "process", "workers": 4},
        ]
    }
    caveats: ClassVar[Sequence[str]] = (
        "A job is taken off the queue before it runs: a worker that is killed loses it.",
        "A job that returns nothing leaves no result and no history; `ask` uses a job that returns a number.",
        "On Redis a job is acknowledged from memory; what a crash loses is up to the server's appendfsync.",
        "On SQLite an idle worker polls, here every 1 to 2 ms instead of every 0.1 to 10 s as by default.",
        "On Redis, jobs of a higher priority need another storage class, which this does not use.",
        "The setting `workers` says how many processes one worker command forks.",
    )

    def setup(self) -> None:
        """Make the tables, and remove what is left in Redis."""
        Jobs(self.url).huey.flush()

    def fill(self, jobs: int, payload: int, delay: float, higher: bool) -> None:
        """Add one after another: there is no bulk call."""
        made = Jobs(self.url)
        text = "x" * payload
        options: dict[str, Any] = {"priority": 5} if higher else {}
        for n in range(jobs):
            if delay:
                made.nothing.schedule(args=(n, text), delay=delay, **options)
            else:
                made.nothing(n, text, **options)

    def work(self) -> None:
        """Serve with the consumer; SIGTERM lets running jobs end."""
        consumer = Jobs(self.url, self.tally, self.sleep).huey.create_consumer(
            workers=self.options.get("workers", 1),
            worker_type=self.options.get("worker_type", "thread"),
            periodic=False,
            initial_delay=0.001,
            max_delay=0.002,
            graceful_signal="TERM",
        )
        consumer.run()

    def adder(self, payload: int) -> Adder:
        """Add by calling tasks."""
        made = Jobs(self.url)
        return CallingAdder("x" * payload, add=made.nothing, result=made.result, stamp=made.stamp)


if __name__ == "__main__":
    main(HueyRival)
