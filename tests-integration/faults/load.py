"""Load for a queue: client and worker processes, ways to disturb them, and the verdict on their history.

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
from history import NOTICE, Final, History, Limit, Span, check, read, recoveries, standing
from journal import Answer, Answered, Asked, Disturbed, Journal, Serving, Stopped, now
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
"""Seconds without a heartbeat after which a worker counts as lost; the default of 30 would be too long for a test."""
LONG_LEASE = 6.0
"""The same, for workers that must not count as lost even on a busy machine."""
PROBE = "probe"
"""Token prefix of the jobs that the test itself adds to see whether anything runs."""
SOON = 15.0
"""Seconds within which work must continue after an outage: more than the longest pause between two attempts."""
LATE = re.compile("counted as lost|could not renew its leases")
ALL_KINDS = {"quick": 12, "sleeping": 4, "threaded": 2, "flaky": 2, "doomed": 1}
"""The kinds that a client adds by default, and one that fails permanently, with their weights."""
HASTY = "hasty"
"""Token prefix of a client that gives up soon, so that its adds may fail or have an unknown result."""
PATIENT = {"wait": True, "patience": 300.0, "seconds": 300.0}
"""The plan of a client that waits through every outage, so that all its adds are acknowledged in the end."""
WAITS = (JobState.SCHEDULED, JobState.BLOCKED, JobState.PENDING, JobState.PROCESSING)


class Process:
    """A worker, server or client process, and what a test does to it; the journal records each disturbance.

    slots: of a worker that serves all jobs of the load; None for another process.
    """

    def __init__(self, child: Any, journal: Journal, slots: int | None = None) -> None:
        self.slots = slots
        self.child = child
        self.pid: int = child.process.pid
        self._journal = journal
        self._stopped = False

    @property
    def output(self) -> str:
        """The output so far, errors included."""
        return str(self.child.output)

    @property
    def alive(self) -> bool:
        """Whether the process still exists."""
        return self.child.process.poll() is None

    def started(self, timeout: float = 30) -> Process:
        """Wait until the process reports that it has started; return the process."""
        self.line("started", timeout)
        if self.slots is not None:
            self._journal.write(Serving(pid=self.pid, slots=self.slots, at=now()))
        return self

    def line(self, pattern: str, timeout: float = 30) -> re.Match[str]:
        """Wait for a line of the output that matches the pattern."""
        found: re.Match[str] = self.child.wait_for_line(pattern, timeout)
        return found

    def done(self, timeout: float = 30) -> None:
        """Wait until a client reports that it has added all its jobs and seen the end of all that it waits for.

        timeout: maximum seconds between two lines of output.
        """
        self.line("^done$", timeout)  # warnings contain the word, too

    @property
    def is_done(self) -> bool:
        """Whether the client has reported that it is done."""
        return self.said("done")

    def said(self, line: str) -> bool:
        """Whether the process has printed this line."""
        return line in self.output.splitlines()

    def said_at(self, pattern: re.Pattern[str]) -> list[float]:
        """Return the journal time at which each line that contains the pattern was received."""
        return list(self.child.times_of(pattern))

    def kill(self) -> None:
        """Kill the process as a crash would. The process has ended when this returns."""
        self._disturbed("paused")  # before the kill: another worker may take its leases from this moment on
        self.child.kill()
        self._disturbed("killed")

    def died(self) -> None:
        """Wait until the process has killed itself, and record that for the verdict."""
        self.wait()
        self._disturbed("killed")

    def stop(self) -> None:
        """Pause the process, as a debugger or a hypervisor would."""
        self._disturbed("paused")
        os.kill(self.pid, signal.SIGSTOP)
        self._stopped = True

    def cont(self) -> None:
        """Resume the paused process."""
        os.kill(self.pid, signal.SIGCONT)
        self._stopped = False
        self._disturbed("resumed")

    def term(self) -> None:
        """Ask the process to stop, as an operator would."""
        self._journal.write(Stopped(pid=self.pid, ended=False, at=now()))
        self.child.terminate()

    def wait(self, timeout: float = 60) -> int:
        """Wait for the process to end; return its exit code, -9 after a kill. Raises subprocess.TimeoutExpired."""
        code = int(self.child.wait(timeout))
        if code == 0:
            self._journal.write(Stopped(pid=self.pid, ended=True, at=now()))
        return code

    def cut_off(self) -> None:
        """Record that the process may fail to renew its leases from now on, and must then stop its runs."""
        self._disturbed("cut off")

    def _disturbed(self, how: Any) -> None:
        self._journal.write(Disturbed(pid=self.pid, how=how, at=now()))


def pause(worker: Process, url: str) -> None:
    """Pause a worker, but not during a write to SQLite: a paused process keeps the lock on the file."""
    pause_between_writes(worker.stop, worker.cont, url)


@attrs.frozen(kw_only=True)
class Verdict:
    """The result of checking a history."""

    history: History
    finals: list[Final]
    violations: list[Violation]
    excused: int = 0
    """Undisturbed processes that report a late renewal of their leases. A machine that is too busy excuses them; on any
    other machine there are no such processes."""

    @property
    def text(self) -> str:
        """One line per violation (the first hundred); empty if there is no violation."""
        lines = [str(violation) for violation in self.violations]
        return "\n".join([*lines[:100], *([f"… {len(lines)} in all"] if len(lines) > 100 else [])])

    def count(self, *wrongs: Wrong) -> int:
        """Count the violations of these kinds."""
        return sum(violation.wrong in wrongs for violation in self.violations)

    @property
    def answers(self) -> set[Answer]:
        """The answers to the adds of patient clients, that is, of all clients whose name does not begin with HASTY.
        `Load.next_run` repeats its probes until the storage accepts one."""
        return {add.answer for add in self.history.adds if not add.token.startswith((PROBE, HASTY))}

    @property
    def figures(self) -> dict[str, Any]:
        """The arguments of the fixture `report`, except `tried`."""
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
    """The processes that use one storage.

    url: the processes connect here, maybe through a proxy. direct: the test itself connects here (default: url). here:
    the folder of the programs and jobs of the processes (default: this one). processes: the list that its processes
    join, if several loads are judged together (default: one of its own).
    """

    def __init__(
        self,
        children: Any,
        folder: Path,
        url: str,
        direct: str | None = None,
        *,
        here: Path = HERE,
        processes: list[Process] | None = None,
    ) -> None:
        self.url = url
        self.direct = direct or url
        self.journal = Journal(folder / "journal")
        self.ends: dict[str, JobState | None] = {}
        """By token: the expected final state of a job, if it is not COMPLETED; None allows any state."""
        self._children = children
        self._here = here
        self._environment = {"PYTHONPATH": str(here), load_jobs.VARIABLE: str(self.journal.path)}
        self.processes: list[Process] = [] if processes is None else processes
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
        """Start `jobq worker` (or `jobq server`) with short leases; return at once, see `Process.started`.

        url: the storage of this worker (default: the storage of the load).
        """
        limit = {"worker": "--concurrency", "server": "--workers"}[command]
        timing = ("--lost-after", str(lost_after), "--heartbeat-interval", str(lost_after / 4))
        arguments = (command, "load_jobs", "--storage", url or self.url, limit, str(slots), *timing, *options)
        # With options, it may serve other queues, or withhold starts.
        return self.jobq(*arguments, slots=None if options or url else slots)

    def client(self, **plan: Any) -> Process:
        """Start a process that adds jobs according to a Plan (see load_client); its name is unique by default."""
        self._clients += 1
        plan = {"name": f"client{self._clients}", **plan}
        text = msgspec.json.encode(msgspec.convert(plan, Plan)).decode()
        return self.python(self._here / "load_client.py", self.url, text)

    def contained(
        self, wrapper: Collection[str], *options: str, slots: int = 4, lost_after: float = LOST_AFTER
    ) -> Process:
        """Start `jobq worker` through another command, such as unshare or prlimit; a missing command is an error."""
        jobq = str(Path(sys.executable).with_name("jobq"))
        timing = ("--lost-after", str(lost_after), "--heartbeat-interval", str(lost_after / 4))
        worker = (jobq, "worker", "load_jobs", "--storage", self.url, "--concurrency", str(slots), *timing, *options)
        return self.python("-c", "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])", *wrapper, *worker)

    def at_work(self, **plan: Any) -> tuple[list[Process], Process]:
        """Start two workers and a patient client with this plan; return when all three have started."""
        workers = [self.worker().started() for _ in range(2)]
        return workers, self.client(**PATIENT | plan).started()

    async def hold(self, gate: Path, *tokens: str, **options: Any) -> list[UUID]:
        """Add jobs that run until the file `gate` exists, and wait until they run; return their ids."""
        jobs = await self.add([load_jobs.at_gate(token=token, gate=str(gate)) for token in tokens], **options)
        await self.until(lambda history: {run.token for run in history.runs} >= set(tokens))
        return jobs

    async def some_more(self, client: Process, runs: int = 40) -> set[UUID]:
        """Wait for `runs` more runs or for the client's end; return the jobs acknowledged by then."""
        before = len(self.history().runs)
        history = await self.until(lambda history: len(history.runs) > before + runs or client.said("added"))
        return {add.job for add in history.adds if add.answer == "acknowledged" and add.job is not None}

    async def unnoticed(self, client: Process, *workers: Process) -> Verdict:
        """Let the client finish, stop all processes, and assert that none of them noticed any fault."""
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
        """Add jobs from the test process, and record them in the journal."""
        tokens = [str(job.token) for job in jobs]
        for token in tokens:
            self.journal.write(Asked(token=token, at=now()))
        async with JobQueueClient(self.direct) as client:
            handles = await client.add_many(jobs, **options)
        for token, handle in zip(tokens, handles, strict=True):
            self.journal.write(Answered(token=token, answer="acknowledged", at=now(), job=handle.id))
        return [handle.id for handle in handles]

    def python(self, *arguments: str | Path, **variables: str) -> Process:
        """Start a Python process that writes to the journal."""
        return self._known(self._children.python(*arguments, **self._environment, **variables))

    def jobq(self, *arguments: str, slots: int | None = None) -> Process:
        """Start the `jobq` command with the jobs of this folder. slots: see Process."""
        return self._known(self._children.jobq(*arguments, **self._environment), slots)

    def _known(self, child: Any, slots: int | None = None) -> Process:
        process = Process(child, self.journal, slots)
        self.processes.append(process)
        return process

    def history(self, *, punctual: Collection[Process] = ()) -> History:
        """Return the history so far.

        A process that reports a late renewal of its leases, for example on a machine that is too busy, counts as late
        around that time. The reports of punctual processes excuse nothing.
        """
        begun = time.monotonic()
        history = read(self.journal.read())
        self._reading = time.monotonic() - begun
        return attrs.evolve(history, late=self._late(punctual))

    def _late(self, punctual: Collection[Process]) -> dict[int, list[Span]]:
        said = {process.pid: process.said_at(LATE) for process in self.processes if process not in punctual}
        return {pid: [(at - NOTICE, at + NOTICE) for at in times] for pid, times in said.items() if times}

    async def drained(self, timeout: float = 60, *, but: Collection[JobState] = (), queue: str = "default") -> float:
        """Wait until no job of a queue waits or runs; return the seconds taken. Fails at the deadline.

        but: states in which jobs may remain. The storage may be unavailable meanwhile.
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
        raise AssertionError(f"not drained within {timeout} s; left: {left}")

    async def finals(self) -> list[Final]:
        """Return the final state of each job."""
        finals: list[Final] = []
        after: UUID | None = None
        async with open_storage(self.direct) as storage:
            while True:
                page = await storage.find(JobFilter(), after=after, limit=1000)
                records = await storage.get([summary.id for summary in page.jobs])
                finals += [Final.of(record) for record in records if record is not None]
                after = page.cursor
                if after is None:
                    return finals

    async def verdict(
        self, *, limits: Collection[Limit] = (), punctual: Collection[Process] = (), **options: Any
    ) -> Verdict:
        """Check the whole history. punctual: see `history`; options: those of `history.check`."""
        history = self.history(punctual=punctual)
        adds = [attrs.evolve(add, ends=self.ends.get(add.token, add.ends)) for add in history.adds]
        history = attrs.evolve(history, adds=adds)
        finals, kept = await self._standing()
        violations = check(history, finals, kept=kept, limits=limits, **options)
        if violations:
            await self.noticed(history, finals)
            history = attrs.evolve(history, late=self._late(punctual))
            violations = check(history, finals, kept=kept, limits=limits, **options)
        excused = len(history.late.keys() - history.disturbed) if options.get("undisturbed") else 0
        return Verdict(history=history, finals=finals, violations=violations, excused=excused)

    async def noticed(self, history: History, finals: Collection[Final]) -> None:
        """Wait until each process that lost leases reports it, for NOTICE at most: on a busy machine, the jobs may end
        elsewhere before the process runs again."""
        lost = {lease for final in finals for lease in final.lost}
        since = {run.pid: run.start for run in history.runs if run.lease in lost and run.pid not in history.disturbed}
        silent = [process for process in self.processes if process.pid in since and process.alive]
        begun = time.monotonic()
        while any(max(process.said_at(LATE), default=0.0) < since[process.pid] for process in silent):
            if time.monotonic() - begun > NOTICE:
                return
            await asyncio.sleep(0.05)

    async def _standing(self) -> tuple[list[Final], Kept]:
        """Return the state of each job, and what the storage keeps and counts.

        These are separate reads. They are repeated if the counts differ, since a process may have worked between them.
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
            # Reading a long history takes time: it must stay a small part of the machine's load.
            await asyncio.sleep(max(0.01, 3 * self._reading))
        return history

    async def next_run(self, since: float) -> float:
        """Wait for a run that begins after that moment of the journal; return the seconds between them.

        Adds a job as soon as the storage accepts one, since the clients may have added all their jobs by then.
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
