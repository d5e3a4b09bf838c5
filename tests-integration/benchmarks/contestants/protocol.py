"""The protocol between the runner and the contestants of the benchmarks.

Each contestant (jobq, a floor, a rival) is a script next to this file that runs in a separate environment, so this
module needs only the standard library. Each process of a script carries out one verb:

    python rival_x.py setup  --url URL
    python rival_x.py fill   --url URL --jobs 20000 [--payload 2048] [--delay 3600] [--higher]
    python rival_x.py work   --url URL --tally FILE [--sleep 0.001]     serves until SIGTERM
    python rival_x.py add    --url URL --jobs 1000                      one after another
    python rival_x.py group  --url URL --jobs 5000 --callers 50         from many concurrent callers
    python rival_x.py many   --url URL --jobs 100000 --per-call 1000    in bulk
    python rival_x.py ask    --url URL --jobs 1000 --callers 100        add and wait for the result, a worker running
    python rival_x.py submit --url URL --jobs 200                       `stamp` jobs, one at a time with gaps
    python rival_x.py pace   --url URL --rate 5000 --seconds 600        at a steady rate, some of them `stamp` jobs
    python rival_x.py about                                             versions, what it can do, settings to try

and prints one JSON line. `--settings '{"batch": 100}'` contains a contestant's tunable settings. Handlers write into a
file that all worker processes share (`Tally`) and that the runner reads while they serve. So the same code counts every
contestant, from the start of its first handler to the start of its last.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import fcntl
import json
import mmap
import os
import random
import signal
import struct
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

SLOTS = 64
"""Maximum number of worker processes of a tally."""
LATENCIES = 16_384
"""Maximum number of pick-up times per process; later ones are only counted."""

_HEAD = struct.Struct("=qqddq")  # process id, runs, monotonic seconds of the first and last run's start, pick-up times
_SLOT = _HEAD.size + 8 * LATENCIES
_TIME = struct.Struct("=d")


class Tally:
    """The number of runs and their pick-up times in a file, with a slot per process, so that processes need no lock."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), SLOTS * _SLOT)
        self._take_slot()
        os.register_at_fork(after_in_child=self._take_slot)

    @staticmethod
    def create(path: Path) -> None:
        """Create an empty tally in a sparse file."""
        with path.open("wb") as file:
            file.truncate(SLOTS * _SLOT)

    def _take_slot(self) -> None:
        self._runs = 0
        self._times = 0
        self._first = 0.0
        self._pid = os.getpid()
        self._offset = -1

    def _claim(self) -> int:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            for offset in range(0, SLOTS * _SLOT, _SLOT):
                if _HEAD.unpack_from(self._map, offset)[0] == 0:
                    self._first = time.monotonic()
                    _HEAD.pack_into(self._map, offset, self._pid, 0, self._first, self._first, 0)
                    return offset
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        raise RuntimeError(f"more than {SLOTS} processes count into one tally")

    def ran(self) -> None:
        """Count a run that starts now."""
        if self._offset < 0:
            self._offset = self._claim()
        self._runs += 1
        _HEAD.pack_into(self._map, self._offset, self._pid, self._runs, self._first, time.monotonic(), self._times)

    def picked_up(self, sent: float) -> None:
        """Count a run of a job that was about to be added at `sent`, in seconds of this machine's monotonic clock."""
        late = time.monotonic() - sent
        if self._offset < 0:
            self._offset = self._claim()
        if self._times < LATENCIES:
            _TIME.pack_into(self._map, self._offset + _HEAD.size + 8 * self._times, late)
            self._times += 1
        self.ran()


def read_tally(path: Path) -> dict[str, Any]:
    """Return the totals: runs, runs of each process, first and last start, and pick-up times in seconds."""
    runs: list[int] = []
    first, last = float("inf"), 0.0
    latencies: list[float] = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for offset in range(0, SLOTS * _SLOT, _SLOT):
            pid, count, began, ended, times = _HEAD.unpack_from(data, offset)
            if pid and count:
                runs.append(count)
                first, last = min(first, began), max(last, ended)
                start = offset + _HEAD.size
                latencies += struct.unpack_from(f"={times}d", data, start)
    return {"runs": sum(runs), "processes": runs, "first": first, "last": last, "latencies": latencies}


class Contestant(ABC):
    """A job queue, used through its public interface only.

    name: as in the tables. packages: distributions whose versions are reported. can: the supported verbs. settings: for
    a verb, the settings to try, of which the runner keeps the best. storages: the supported kinds of URL: 'postgresql',
    'sqlite' (a new file in an existing folder), 'redis' or 'memory'. imports: for a storage, the import statement of a
    web application. connects: an async expression of `url` that connects after the import. caveats: sentences that
    readers of the figures must know.
    """

    name: ClassVar[str]
    packages: ClassVar[Sequence[str]] = ()
    can: ClassVar[frozenset[str]] = frozenset({"fill", "work", "add", "group", "many", "submit"})
    settings: ClassVar[dict[str, list[dict[str, Any]]]] = {}
    caveats: ClassVar[Sequence[str]] = ()
    storages: ClassVar[Sequence[str]] = ("postgresql",)
    imports: ClassVar[dict[str, str]] = {}
    connects: ClassVar[str] = ""

    def __init__(self, url: str, settings: dict[str, Any], tally: Tally | None, sleep: float) -> None:
        self.url = url
        self.options = settings
        self.tally = tally
        self.sleep = sleep

    @abstractmethod
    def setup(self) -> None:
        """Create the tables, once in a fresh database."""

    @abstractmethod
    def fill(self, jobs: int, payload: int, delay: float, higher: bool) -> None:
        """Add no-op jobs as fast as possible, without measuring.

        payload: bytes of text in each job's arguments. delay: seconds until the jobs are due. higher: whether they have
        a higher priority than other jobs.
        """

    @abstractmethod
    def work(self) -> None:
        """Serve until SIGTERM.

        A no-op handler calls `self.tally.ran()`, then sleeps for `self.sleep` seconds if that is not 0. A `stamp`
        handler calls `self.tally.picked_up(sent)`.
        """

    @abstractmethod
    def adder(self, payload: int) -> Adder:
        """Return an adder for this process."""

    def blocking_adder(self, payload: int) -> AbstractContextManager[Callable[[int], object]] | None:
        """Return a function that adds a no-op job from any thread, for `add` and `group` without an event loop."""
        return None


class Adder(ABC):
    """Adds jobs in one event loop. A synchronous client implements it with async methods that never wait."""

    async def __aenter__(self) -> Adder:
        """Connect."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Disconnect."""
        return

    @abstractmethod
    async def one(self, n: int) -> None:
        """Add a no-op job and return when it is acknowledged."""

    async def ask(self, n: int) -> None:
        """Add a no-op job and return when its result has arrived."""
        raise NotImplementedError

    @abstractmethod
    async def many(self, count: int) -> None:
        """Add `count` no-op jobs in one call."""

    @abstractmethod
    async def stamp(self) -> None:
        """Add a `stamp` job with the `time.monotonic()` just before the call."""


async def timed(calls: int, callers: int, call: Callable[[int], Awaitable[None]]) -> dict[str, Any]:
    """Make `calls` calls from `callers` concurrent callers. Return the start, the total seconds, and those of each."""
    latencies: list[float] = []
    start = time.monotonic()
    numbers = iter(range(calls))

    async def caller() -> None:
        for n in numbers:
            began = time.perf_counter()
            await call(n)
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return {"began": start, "seconds": time.perf_counter() - began, "latencies": latencies}


def timed_in_threads(calls: int, callers: int, call: Callable[[int], object]) -> dict[str, Any]:
    """Make calls as `timed` does, from threads."""
    latencies: list[float] = []
    numbers = iter(range(calls))
    ready = threading.Barrier(callers + 1)

    def caller() -> None:
        ready.wait()
        for n in numbers:
            began = time.perf_counter()
            call(n)
            latencies.append(time.perf_counter() - began)

    with ThreadPoolExecutor(callers) as threads:
        running = [threads.submit(caller) for _ in range(callers)]
        ready.wait()
        start, began = time.monotonic(), time.perf_counter()
        for each in running:
            each.result()
    return {"began": start, "seconds": time.perf_counter() - began, "latencies": latencies}


async def submit(adder: Adder, jobs: int) -> dict[str, Any]:
    """Add `stamp` jobs one at a time, 10 to 40 ms apart, so that each finds an idle worker."""
    chance = random.Random(1)
    for _ in range(jobs):
        await asyncio.sleep(0.01 + chance.random() * 0.03)
        await adder.stamp()
    return {}


async def pace(adder: Adder, rate: float, seconds: float) -> dict[str, Any]:
    """Add `rate` jobs a second for `seconds` seconds, in a hundred calls a second.

    A `stamp` job follows every fourth call, so that a tally has room for the pick-up times of ten minutes. A delay is
    not made up for later: `late` is the number of missing calls.
    """
    tick = 0.01
    per_call = max(round(rate * tick), 1)
    began = time.monotonic()
    calls = jobs = 0
    while (now := time.monotonic()) - began < seconds:
        await adder.many(per_call)
        jobs += per_call
        if calls % 4 == 0:
            await adder.stamp()
            jobs += 1
        calls += 1
        await asyncio.sleep(max(0.0, now + tick - time.monotonic()))
    return {"jobs": jobs, "late": max(0, round(seconds / tick) - calls)}


async def _add(contestant: Contestant, options: argparse.Namespace) -> dict[str, Any]:
    async with contestant.adder(options.payload) as adder:
        for n in range(options.warm_up):
            await adder.one(n)
        used = time.process_time()
        match options.verb:
            case "add":
                answer = await timed(options.jobs, 1, adder.one)
            case "group":
                answer = await timed(options.jobs, options.callers, adder.one)
            case "ask":
                answer = await timed(options.jobs, options.callers, adder.ask)
            case "many":
                per_call = options.per_call
                answer = await timed(options.jobs // per_call, 1, lambda _: adder.many(per_call))
            case "pace":
                answer = await pace(adder, options.rate, options.seconds)
            case _:
                answer = await submit(adder, options.jobs)
        return {"jobs": options.jobs, "cpu": time.process_time() - used, **answer}


def _add_in_threads(adder: AbstractContextManager[Callable[[int], object]], options: argparse.Namespace) -> Any:
    with adder as add:
        for n in range(options.warm_up):
            add(n)
        used = time.process_time()
        answer = timed_in_threads(options.jobs, options.callers if options.verb == "group" else 1, add)
        return {"jobs": options.jobs, "cpu": time.process_time() - used, **answer}


ADDING = ("add", "group", "ask", "many", "submit", "pace")


def _end_with_runner() -> None:
    """Ask Linux for a SIGTERM when the runner ends, so that no process is left."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _about(kind: type[Contestant]) -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "name": kind.name,
        "python": sys.version.split()[0],
        "versions": {package: version(package) for package in kind.packages},
        "can": sorted(kind.can),
        "settings": kind.settings,
        "caveats": list(kind.caveats),
        "storages": list(kind.storages),
        "imports": kind.imports,
        "connects": kind.connects,
    }


def main(kind: type[Contestant]) -> None:
    """Carry out the verb of the command line, and print the answer as a JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["about", "setup", "fill", "work", *ADDING])
    parser.add_argument("--url", default="")
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--callers", type=int, default=50)
    parser.add_argument("--per-call", type=int, default=1000)
    parser.add_argument("--payload", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0)
    parser.add_argument("--higher", action="store_true")
    parser.add_argument("--sleep", type=float, default=0)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--warm-up", type=int, default=20)
    parser.add_argument("--tally", type=Path)
    options = parser.parse_args()
    if options.verb == "about":
        print(json.dumps(_about(kind)))
        return
    _end_with_runner()
    tally = Tally(options.tally) if options.tally else None
    contestant = kind(options.url, options.settings, tally, options.sleep)
    answer: dict[str, Any] = {}
    match options.verb:
        case "setup":
            contestant.setup()
        case "fill":
            contestant.fill(options.jobs, options.payload, options.delay, options.higher)
        case "work":
            contestant.work()
        case _:
            blocking = contestant.blocking_adder(options.payload)
            if blocking is not None:
                answer = _add_in_threads(blocking, options)
            else:
                answer = asyncio.run(_add(contestant, options))
    print(json.dumps(answer))
