"""A program that forks while its threads use one client, which then works in the parent and in the children."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from jobq_client import SyncJobQueueClient
from jobq_core import ConfigurationError, JobAdded, job


@job()
async def keep(number: int) -> int:
    raise NotImplementedError


def in_child(client: SyncJobQueueClient, inherited: Iterator[JobAdded], unopened: SyncJobQueueClient) -> None:
    """Use the clients of the parent, from several threads at once."""
    called = threading.Event()
    client.on(JobAdded, lambda event: called.set())
    with ThreadPoolExecutor(8) as threads:
        handles = list(threads.map(client.add, [keep(n) for n in range(50)]))
    assert len(set(handles)) == 50
    assert all(handle.abort() for handle in handles)
    assert called.wait(20)
    with contextlib.suppress(ConfigurationError):
        next(inherited)
        raise AssertionError("an iterator of the parent's goes on in the child")
    client.stop()
    for stopped in (client, unopened):
        with stopped:
            stopped.add(keep(1))


def main(url: str) -> None:
    """Fork three times, while eight threads add jobs."""
    client, unopened = SyncJobQueueClient(url), SyncJobQueueClient(url)
    stopping = threading.Event()
    with client:
        added = 0

        def add() -> int:
            done = 0
            while not stopping.is_set():
                client.add(keep(done))
                done += 1
            return done

        events = client.events(JobAdded)
        with ThreadPoolExecutor(8) as threads:
            adders = [threads.submit(add) for _ in range(8)]
            next(events)
            for _ in range(3):
                child = os.fork()
                if child == 0:
                    status = 1
                    try:
                        in_child(client, events, unopened)
                        status = 0
                    finally:
                        sys.stderr.flush()
                        os._exit(status)
                _, status = os.waitpid(child, 0)
                assert status == 0, "a child failed"
            stopping.set()
            added = sum(adder.result() for adder in adders)
        assert client.size() >= added
    sys.stdout.write("ok\n")


main(sys.argv[1])
