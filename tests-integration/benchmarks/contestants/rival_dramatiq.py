# /// script
# requires-python = ">=3.11"
# dependencies = ["dramatiq==2.2.1", "redis[hiredis]==8.1.0"]
# ///
"""dramatiq on Redis, with one worker of some threads."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

from calling import CallingAdder, handlers
from protocol import Adder, Contestant, Tally, main


class Jobs:
    """A broker with the jobs of the benchmarks."""

    def __init__(self, url: str, tally: Tally | None = None, sleep: float = 0.0) -> None:
        import dramatiq
        from dramatiq.brokers.redis import RedisBroker
        from dramatiq.results import Results
        from dramatiq.results.backends import RedisBackend

        logging.getLogger("dramatiq").setLevel(logging.WARNING)
        self.broker = RedisBroker(url=url)
        self.results = RedisBackend(url=url)
        self.broker.add_middleware(Results(backend=self.results))
        nothing, answer, stamp = handlers(tally, sleep)
        self.nothing = dramatiq.actor(nothing, broker=self.broker)
        self.answer = dramatiq.actor(answer, broker=self.broker, store_results=True)
        self.stamp = dramatiq.actor(stamp, broker=self.broker)

    def result(self, n: int, text: str) -> int:
        """Add a job and wait for its result."""
        found: int = self.answer.send(n, text).get_result(backend=self.results, block=True, timeout=60_000)
        return found


class DramatiqRival(Contestant):
    """dramatiq: threads in one process.

    settings: `threads`, `prefetch` jobs fetched ahead, `timeout` milliseconds that an idle worker waits at most.
    """

    name = "dramatiq"
    packages = ("dramatiq", "redis", "hiredis")
    can = frozenset({"fill", "work", "add", "group", "submit", "ask"})
    storages = ("redis",)
    imports: ClassVar[dict[str, str]] = {"redis": "import dramatiq; from dramatiq.brokers.redis import RedisBroker"}
    settings: ClassVar[dict[str, list[dict[str, Any]]]] = {
        "work": [
            {"threads": 2, "prefetch": 100, "timeout": 5},
            {"threads": 1, "prefetch": 100, "timeout": 5},
            {"threads": 8, "prefetch": 100, "timeout": 5},
        ]
    }
    caveats: ClassVar[Sequence[str]] = (
        "A job is acknowledged after it ran; those of a killed worker come back after a minute at the earliest.",
        "No results and no history are kept, except of the job that `ask` waits for.",
        "On Redis a job is acknowledged from memory; what a crash loses is up to the server's appendfsync.",
        "An idle worker polls, here at most 5 ms apart instead of 1 s as by default.",
        "Jobs for later are fetched ahead, 1,000 for each thread, and held in a worker's memory until they are due.",
        "Priorities are among the jobs that a worker has fetched only.",
    )

    def __init__(self, url: str, settings: dict[str, Any], tally: Tally | None, sleep: float) -> None:
        super().__init__(url, settings, tally, sleep)
        os.environ["dramatiq_queue_prefetch"] = str(settings.get("prefetch", 0))  # noqa: SIM112 - read at its import

    def setup(self) -> None:
        """Remove what is left in Redis."""
        Jobs(self.url).broker.flush_all()

    def fill(self, jobs: int, payload: int, delay: float, higher: bool) -> None:
        """Add one after another: there is no bulk call."""
        if higher:
            raise NotImplementedError("dramatiq has no priorities among the jobs in Redis")
        made = Jobs(self.url)
        text = "x" * payload
        for n in range(jobs):
            made.nothing.send_with_options(args=(n, text), delay=round(1000 * delay) if delay else None)

    def work(self) -> None:
        """Serve with one worker; SIGTERM lets running jobs end."""
        ended = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        made = Jobs(self.url, self.tally, self.sleep)
        from dramatiq import Worker

        threads, timeout = self.options.get("threads", 8), self.options.get("timeout", 5)
        worker = Worker(made.broker, worker_threads=threads, worker_timeout=timeout)
        worker.start()
        ended.wait()
        worker.stop()
        made.broker.close()

    def adder(self, payload: int) -> Adder:
        """Add by sending messages."""
        made = Jobs(self.url)
        return CallingAdder("x" * payload, add=made.nothing.send, result=made.result, stamp=made.stamp.send)


if __name__ == "__main__":
    main(DramatiqRival)
