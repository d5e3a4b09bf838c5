"""Load for a queue: processes that add and processes that work, a way to hurt them, and the verdict on what they did.

async def test_…(load_on, report, seed):
    load = load_on(url)
    load.worker(), load.client(jobs=500, wait=True)
    …
    await load.drained()
    verdict = await load.verdict()
    report("kill -9 of workers", tried=6, **verdict.figures)
    assert verdict.text == ""
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import load_jobs
import msgspec
from history import NOTICE, Final, History, Limit, check, read, recoveries, standing
from journal import Answer, Answered, Asked, Disturbed, Journal, now
from kept import kept_in
from load_client import Plan
from pausing import pause_between_writes
from tables import Kept, miscounted
from wrong import Violation, Wrong

from jobq_client import JobQueueClient
from jobq_core import open_storage
from jobq_core.errors import StorageError
from jobq_core.states import JobState
from jobq_core.storage import JobFilter

HERE = Path(__file__).parent
LOST_AFTER = 2.0
"""Seconds without a sign of life after which the workers here count as lost, so that a test need not wait for 30."""
LONG_LEASE = 4.0
"""The same for workers that nobody is to take for lost, however busy the machine is."""
PROBE = "probe"
"""How the tokens begin of jobs that the test itself adds, to see whether anything runs."""
SOON = 15.0
"""Seconds within which work must go on once a storage is back: the longest pauses between tries, and then some."""
IN_TROUBLE = re.compile("was taken for lost|could not renew its leases")
ALL_KINDS = {"quick": 12, "sleeping": 4, "threaded": 2, "flaky": 2, "doomed": 1}
"""The kinds that a client adds unless told otherwise, and one that fails for good."""
HASTY = "hasty"
"""How the tokens begin of a client that gives up soon, so that its adds may be refused, or it is not known of them."""
PATIENT = {"wait": True, "patience": 300.0, "seconds": 300.0}
"""The plan of a client that rides out whatever happens, so that all that it adds is acknowledged in the end."""
WAITS = (JobState.SCHEDULED, JobState.BLOCKED, JobState.PENDING, JobState.PROCESSING)


class Process:
    """A worker, server or client, and what a test does to it; each trouble is written into the journal."""

    def __init__(self, child: Any, journal: Journal) -> None:
        self.child = child
        self.pid: int = child.process.pid
        self._journal = journal
        self._stopped = False

    @property
    def output(self) -> str:
        """What it has printed so far, errors included."""
        return str(self.child.output)

    @property
    def alive(self) -> bool:
        """Whether it has not ended, for whatever reason."""
        return self.child.process.poll() is None

    def started(self, timeout: float = 30) -> Process:
        """Wait until it says that it has started; return it."""
        self.line("started", timeout)
        return self

    def line(self, pattern: str, timeout: float = 30) -> re.Match[str]:
        """Wait for a line of its output."""
        found: re.Match[str] = self.child.wait_for_line(pattern, timeout)
        return found

    def done(self, timeout: float = 30) -> None:
        """Wait until a client says that it has added all and heard of all that it waits for.

        timeout: seconds in which it must print something, whatever that is.
        """
        self.line("^done$", timeout)  # the word is in warnings too

    @property
    def is_done(self) -> bool:
        """Whether it has said so."""
        return self.said("done")

    def said(self, line: str) -> bool:
        """Whether it has printed this line."""
        return line in self.output.splitlines()

    def said_at(self, pattern: re.Pattern[str]) -> list[float]:
        """Return when it was heard to print each line that the pattern is found in, by the journal's time."""
        return list(self.child.times_of(pattern))

    def kill(self) -> None:
        """Kill it as a crash would. It has ended when this returns."""
        self._disturbed("paused")  # in trouble before it ends: its leases may be taken from this moment on
        self.child.kill()
        self._disturbed("killed")

    def died(self) -> None:
        """Say that it has killed itself, for the verdict: waits for that."""
        self.wait()
        self._disturbed("killed")

    def stop(self) -> None:
        """Pause it, as a debugger or a hypervisor would."""
        self._disturbed("paused")
        os.kill(self.pid, signal.SIGSTOP)
        self._stopped = True

    def cont(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)
        self._stopped = False
        self._disturbed("resumed")

    def term(self) -> None:
        """Ask it to stop, as an operator would."""
        self.child.terminate()

    def wait(self, timeout: float = 60) -> int:
        """Wait for its end; return its exit code, -9 if it was killed. Raises subprocess.TimeoutExpired."""
        return int(self.child.wait(timeout))

    def trouble(self) -> None:
        """Say that from now on it may fail to renew its leases: its connection is cut, say. It is to stop its runs."""
        self._disturbed("cut off")

    def _disturbed(self, how: Any) -> None:
        self._journal.write(Disturbed(pid=self.pid, how=how, at=now()))


def pause(worker: Process, url: str) -> None:
    """Pause a worker, though not while it writes to SQLite: nobody can take a file's lock from a paused process."""
    pause_between_writes(worker.stop, worker.cont, url)


@attrs.frozen(kw_only=True)
class Verdict:
    """What a history came to."""

    history: History
    finals: list[Final]
    violations: list[Violation]
    excused: int = 0
    """Processes that nobody was to disturb and that say that they renewed their leases too late: on a machine that is
    too busy nobody is to blame for it, and elsewhere there are none."""

    @property
    def text(self) -> str:
        """All that is wrong, a line each (the first hundred); empty if nothing is."""
        lines = [str(violation) for violation in self.violations]
        return "\n".join([*lines[:100], *([f"… {len(lines)} in all"] if len(lines) > 100 else [])])

    def count(self, *wrongs: Wrong) -> int:
        """Count violations of these sorts."""
        return sum(violation.wrong in wrongs for violation in self.violations)

    @property
    def answers(self) -> set[Answer]:
        """Which answers the adds of patient clients had: of all but those whose name begins with HASTY. The probes of
        `Load.next_run` are tried again until one is taken."""
        return {add.answer for add in self.history.adds if not add.token.startswith((PROBE, HASTY))}

    @property
    def figures(self) -> dict[str, Any]:
        """What the fixture `report` wants to know, but for how often the fault was tried."""
        return {
            "added": sum(add.answer == "acknowledged" and add.created for add in self.history.adds),
            "runs": len(self.history.runs),
            "aborted": sum(final.state is JobState.ABORTED for final in self.finals),
            "lost": self.count(Wrong.LOST, Wrong.STUCK),
            "doubled": self.count(Wrong.DOUBLY_OWNED, Wrong.LEASE_TWICE, Wrong.STALE_WRITE, Wrong.ADDED_TWICE),
            "excused": self.excused,
            "recovery": max(recoveries(self.history), default=None),
        }


class Load:
    """Processes around one storage.

    url: where they connect to, maybe through a proxy. direct: where the test itself looks (default: url).
    """

    def __init__(self, children: Any, folder: Path, url: str, direct: str | None = None) -> None:
        self.url = url
        self.direct = direct or url
        self.journal = Journal(folder / "journal")
        self.ends: dict[str, JobState | None] = {}
        """By token: the state that a job must end in, where that is not COMPLETED; None: any."""
        self._children = children
        self._environment = {"PYTHONPATH": str(HERE), load_jobs.VARIABLE: str(self.journal.path)}
        self.processes: list[Process] = []
        self._clients = 0
        self._probes = 0
        self._reading = 0.0

    def worker(
        self,
        *options: str,
        command: str = "worker",
        slots: int = 4,
        lost_after: float = LOST_AFTER,
        url: str | None = None,
    ) -> Process:
        """Start `jobq worker` (or `jobq server`) with short leases; it is not waited for, see Process.started.

        url: where it connects to (default: as all do).
        """
        limit = {"worker": "--concurrency", "server": "--workers"}[command]
        timing = ("--lost-after", str(lost_after), "--heartbeat-interval", str(lost_after / 4))
        arguments = (command, "load_jobs", "--storage", url or self.url, limit, str(slots), *timing, *options)
        return self._known(self._children.jobq(*arguments, **self._environment))

    def client(self, **plan: Any) -> Process:
        """Start a process that adds jobs as the Plan says (see load_client), under a name of its own by default."""
        self._clients += 1
        plan = {"name": f"client{self._clients}", **plan}
        text = msgspec.json.encode(msgspec.convert(plan, Plan)).decode()
        return self.python(HERE / "load_client.py", self.url, text)

    def contained(
        self, wrapper: Collection[str], *options: str, slots: int = 4, lost_after: float = LOST_AFTER
    ) -> Process:
        """Start `jobq worker` through another command, such as unshare or prlimit; a missing one fails loudly."""
        jobq = str(Path(sys.executable).with_name("jobq"))
        timing = ("--lost-after", str(lost_after), "--heartbeat-interval", str(lost_after / 4))
        worker = (jobq, "worker", "load_jobs", "--storage", self.url, "--concurrency", str(slots), *timing, *options)
        return self.python("-c", "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])", *wrapper, *worker)

    def at_work(self, **plan: Any) -> tuple[list[Process], Process]:
        """Have two workers, and a client that is patient and otherwise does as the Plan says; all have started."""
        workers = [self.worker().started() for _ in range(2)]
        return workers, self.client(**PATIENT | plan).started()

    async def hold(self, gate: Path, *tokens: str, **options: Any) -> list[UUID]:
        """Add jobs that run until `gate` is there, and wait until they do; return their ids."""
        jobs = await self.add([load_jobs.at_gate(token=token, gate=str(gate)) for token in tokens], **options)
        await self.until(lambda history: {run.token for run in history.runs} >= set(tokens))
        return jobs

    async def some_more(self, client: Process, runs: int = 40) -> set[UUID]:
        """Wait for runs, if there are any yet to come; return the jobs that were acknowledged by then."""
        before = len(self.history().runs)
        history = await self.until(lambda history: len(history.runs) > before + runs or client.said("added"))
        return {add.job for add in history.adds if add.answer == "acknowledged" and add.job is not None}

    async def unnoticed(self, client: Process, *workers: Process) -> Verdict:
        """Let all end, and hold that nothing is wrong and nobody has noticed what was done; all are asked to stop."""
        client.done(120)
        await self.drained()
        verdict = await self.verdict(undisturbed=True)
        assert verdict.text == ""
        assert verdict.answers == {"acknowledged"}
        assert all(worker.alive for worker in workers)
        for process in (*workers, client):
            process.term()
        return verdict

    async def add(self, jobs: Sequence[Any], **options: Any) -> list[UUID]:
        """Add jobs from the test's own process, and write it into the journal."""
        tokens = [str(job.token) for job in jobs]
        for token in tokens:
            self.journal.write(Asked(token=token, at=now()))
        async with JobQueueClient(self.direct) as client:
            handles = await client.add_many(jobs, **options)
        for token, handle in zip(tokens, handles, strict=True):
            self.journal.write(Answered(token=token, answer="acknowledged", at=now(), job=handle.id))
        return [handle.id for handle in handles]

    def python(self, *arguments: str | Path, **variables: str) -> Process:
        """Start Python with the journal's environment."""
        return self._known(self._children.python(*arguments, **self._environment, **variables))

    def _known(self, child: Any) -> Process:
        process = Process(child, self.journal)
        self.processes.append(process)
        return process

    def history(self, *, punctual: Collection[Process] = ()) -> History:
        """Return what has happened so far.

        A process that says that it could not renew its leases in time, on a machine that is too busy say, was in
        trouble by its own words for a while. Those that are to be punctual excuse nothing by them.
        """
        begun = time.monotonic()
        history = read(self.journal.read())
        self._reading = time.monotonic() - begun
        said = {process.pid: process.said_at(IN_TROUBLE) for process in self.processes if process not in punctual}
        late = {pid: [(at - NOTICE, at + NOTICE) for at in times] for pid, times in said.items() if times}
        return attrs.evolve(history, late=late)

    async def drained(self, timeout: float = 60, *, but: Collection[JobState] = (), queue: str = "default") -> float:
        """Wait until no job of a queue waits or runs, and return the seconds that took; fails at the deadline.

        but: states that jobs may stay in. The storage may be away meanwhile.
        """
        begun = time.monotonic()
        left: object = "unknown: the storage did not answer"
        while time.monotonic() - begun < timeout:
            try:
                async with open_storage(self.direct) as storage:
                    while time.monotonic() - begun < timeout:
                        counts = (await storage.counts(queue))[queue]
                        left = {state.value: counts[state] for state in WAITS if counts[state] and state not in but}
                        if not left:
                            return time.monotonic() - begun
                        await asyncio.sleep(0.05)
            except StorageError as error:
                left = error
                await asyncio.sleep(0.1)
        raise AssertionError(f"after {timeout} s there still is {left}")

    async def finals(self) -> list[Final]:
        """Return how each job stands."""
        finals: list[Final] = []
        after: UUID | None = None
        async with open_storage(self.direct) as storage:
            while True:
                page = await storage.find(JobFilter(), after=after, limit=1000)
                finals += [Final.of(record) for record in page.jobs]
                after = page.cursor
                if after is None:
                    return finals

    async def verdict(
        self, *, limits: Collection[Limit] = (), punctual: Collection[Process] = (), **options: Any
    ) -> Verdict:
        """Judge all that has happened; punctual: see `history`; the options are those of `history.check`."""
        history = self.history(punctual=punctual)
        adds = [attrs.evolve(add, ends=self.ends.get(add.token, add.ends)) for add in history.adds]
        history = attrs.evolve(history, adds=adds)
        finals, kept = await self._standing()
        violations = check(history, finals, kept=kept, limits=limits, **options)
        excused = len(history.late.keys() - history.disturbed) if options.get("undisturbed") else 0
        return Verdict(history=history, finals=finals, violations=violations, excused=excused)

    async def _standing(self) -> tuple[list[Final], Kept]:
        """Return how each job stands, and what the storage keeps and counts.

        These are read one after the other, and so again where the counts are others: somebody may be at work between.
        """
        for _ in range(20):
            finals, kept = await self.finals(), await kept_in(self.direct)
            if not any(miscounted(kept, standing(finals))):
                break
            await asyncio.sleep(0.1)
        return finals, kept

    async def until(self, found: Any, timeout: float = 60) -> History:
        """Wait until `found(history)` is true, and return that history."""
        begun = time.monotonic()
        while not found(history := self.history()):
            now = time.monotonic()
            if now - begun > timeout:
                raise AssertionError(f"not within {timeout} s; {len(history.adds)} adds, {len(history.runs)} runs")
            # A long history takes its time to read, which is to stay a small part of the machine's.
            await asyncio.sleep(max(0.01, 3 * self._reading))
        return history

    async def next_run(self, since: float) -> float:
        """Wait for a run that begins after that moment of the journal; return how many seconds after.

        A job is added for it, as soon as the storage takes one: clients may have added all of theirs by then.
        """
        async with asyncio.timeout(SOON):
            while True:
                self._probes += 1
                try:
                    await self.add([load_jobs.quick(token=f"{PROBE}{self._probes}")])
                    break
                except StorageError:
                    await asyncio.sleep(0.05)
        history = await self.until(lambda history: any(run.start > since for run in history.runs), SOON)
        return min(run.start for run in history.runs if run.start > since) - since
