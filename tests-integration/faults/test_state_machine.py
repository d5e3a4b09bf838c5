"""Memory, SQLite, PostgreSQL and a model run the same operations, in any order, and give the same answers."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import shutil
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast
from unittest import mock
from uuid import UUID

import msgspec
import pytest
from comparison.marks import mark_on_postgres, mark_on_sqlite, marked_on_postgres, marked_on_sqlite
from comparison.model import OVER, SUSPENDED, UNCLAIMED, Model, moment
from comparison.parties import ModelParty, Party, PostgresSchema, StoppedClock, difference, each, parties, said
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from scaling import Scale

from jobq_client import JobQueueClient
from jobq_core import job
from jobq_core.adding import AddOptions, new_job
from jobq_core.errors import JobNotFoundError, JobQueueError, JobStateError
from jobq_core.ids import first_id_after
from jobq_core.operations import work
from jobq_core.records import ErrorRecord, Progress, WorkerInfo, WorkerStats
from jobq_core.states import Ending, JobState
from jobq_core.storage import (
    AUDIT_DAYS,
    GATED,
    UNFIT_ARGUMENTS,
    UNKNOWN_KIND,
    Action,
    Change,
    Claim,
    JobFilter,
    Line,
    NewJob,
    Operation,
    OperationState,
    ProgressReport,
    QueueOptions,
    QueueStorage,
    Retention,
    Settlement,
)
from jobq_core.testing.helpers import RUN_ENDINGS
from jobq_storage_postgres.testing import ThrowawayPostgres

T = TypeVar("T")

START = 1_767_571_200
"""Monday, 5 January 2026: the start of each example's clock."""
QUEUES = ("a", "b")
KINDS = ("count", "shout")
STRIDES = (1, 60, 100, 3600, 86_400, 9 * 86_400)
DELAYS = (0.0, 0.5, 50.0, 100.0, 3600.0, -5.0)
LOST_AFTER = 90.0
STOPPED = (JobState.PENDING, JobState.ABORTED, JobState.DISABLED)
"""The states of a rescued job with attempts left."""
TEXTS = ("", "no such file", 'a "quoted" {word}, a \\ and a ,', "Grüße, 世界 🎉", "two\nlines")
TAGS = ("x", "y", 'q"u{o}t,e\\', "NULL", "ü")


@job(name="count", fingerprint=True)
def count(n: int) -> int:
    return n


@job(name="shout", queue="b", max_attempts=2)
def shout(word: str, *, loud: bool = True) -> str:
    return word


nth = st.integers(0, 9)
"""Index of a job or a run, from the newest; an index beyond the oldest means an unknown one."""
several = st.lists(nth, max_size=4)
queues = st.sampled_from(QUEUES)
texts = st.sampled_from(TEXTS)
words = st.sampled_from([None, "k", "l"])
delays = st.sampled_from([None, *DELAYS])
whens = st.tuples(delays, st.booleans())
tags = st.lists(st.sampled_from(TAGS), max_size=2, unique=True).map(tuple)
priorities = st.sampled_from([0, 0, 100, -100])
states = st.frozensets(st.sampled_from(JobState), max_size=3)
rarely = st.sampled_from([False, False, False, False, True])
operations = st.sampled_from(["abort", "disable", "enable", "retry", "delete"])
alterations = st.sampled_from(["run_now", "reschedule", "move", "set_priority"])
errors = st.builds(ErrorRecord, type=st.sampled_from(["ValueError", "shop.Closed"]), message=texts, traceback=texts)
details: st.SearchStrategy[Any] = st.sampled_from([None, 0, False, [], {"a": [1, 2.5, None]}, "ü"])
new_jobs = st.fixed_dictionaries(
    {
        "queue": queues,
        "kind": st.sampled_from(KINDS),
        "arguments": st.sampled_from([b"{}", b'{"n":1}', b'{"n":2}']),
        "priority": priorities,
        "max_attempts": st.sampled_from([1, 2, 10]),
        "timeout": st.sampled_from([None, 0.1, 60.0]),
        "backoff": st.sampled_from([None, b'{"first":1.0}']),
        "unique_key": words,
        "run_id": st.sampled_from([None, "r", "s"]),
        "tags": tags,
        "fingerprint": st.sampled_from([None, bytes(16), b"\xff" * 16]),
        "meta": st.sampled_from([None, None, b'{"trace":"1-2"}']),
        "gated": st.sampled_from([False, False, False, True]),
        "followed": st.sampled_from([False, False, True]),
        "follow_up": st.sampled_from([None, None, b'{"kind":"alert"}']),
    }
)
additions = st.tuples(
    new_jobs,
    whens,
    whens,
    # The index of an existing job whose id is used again; the error of the clock that makes a new id, in milliseconds.
    st.sampled_from([None, None, None, None, 0, 1, 5]),
    st.sampled_from([0, 0, 0, -5000, 5000]),
)


def as_workers_settle(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a settlement, without a reason that only a suspension has."""
    suspends = options["ending"] is Ending.SUSPEND
    return options if suspends or options["reason"] not in SUSPENDED else {**options, "reason": None}


endings = st.fixed_dictionaries(
    {
        "ending": st.sampled_from([*RUN_ENDINGS, Ending.COMPLETE, Ending.RETRY]),
        "result": st.sampled_from([None, b"null", b"0", b'{"a":[1]}']),
        "error": st.none() | errors,
        "reason": st.sampled_from([None, None, "full", UNKNOWN_KIND, UNFIT_ARGUMENTS]),
        "progress": st.sampled_from([None, None, Progress(percent=100.0, message="done", details=[1])]),
        "declaration": st.sampled_from([None, "one", "two"]),
    }
).map(as_workers_settle)
KNOWN_KINDS = [(), (), (("count", "one"), ("shout", "one")), (("count", "two"),)]
"""The kinds that a claim names, with their declarations."""
settlements = st.tuples(nth, endings, whens)


class Machine(RuleBasedStateMachine):
    """The operations on all storages and the model, and the comparison after each step."""

    environment: ClassVar[tuple[asyncio.Runner, PostgresSchema, Path]]
    """The event loop, the schema and the folder of all examples."""
    steps: ClassVar[int] = 0
    jobs_added: ClassVar[int] = 0
    runs_started: ClassVar[int] = 0
    moves: ClassVar[set[tuple[JobState, JobState]]] = set()
    """The moves between states that happened."""
    asked: ClassVar[set[str]] = set()
    """The operations that ran."""
    rescued: ClassVar[Counter[tuple[str, JobState]]] = Counter()
    """Number of rescued jobs, by what happened to the attempt and by the new state."""

    def __init__(self) -> None:
        super().__init__()
        self.runner, self.schema, folder = self.environment
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.clock = StoppedClock(START)
        self.model = Model(START * 1_000_000)
        self.reading = ModelParty()
        self.jobs: list[UUID] = []
        self.states: dict[UUID, JobState] = {}
        self.claimed: list[tuple[UUID, int]] = []
        self.marked: set[UUID] = set()
        self.workers: list[WorkerInfo] = []
        self._numbers = itertools.count(1)
        self._stack = AsyncExitStack()
        self.run(self._open())

    async def _open(self) -> None:
        self.parties = await self._stack.enter_async_context(parties(self.clock, self.schema, self.folder, QUEUES))
        self.clients = {
            party.name: await self._stack.enter_async_context(JobQueueClient(party.storage, "a", patience=0.0))
            for party in self.parties
        }

    def teardown(self) -> None:
        try:
            if sys.exception() is None:  # otherwise the original error must be reported
                self._drain()
        finally:
            Machine.jobs_added += len(self.jobs)
            Machine.runs_started += self.model.runs
            self.run(self._stack.aclose())
            shutil.rmtree(self.folder)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    # Helpers

    def _id(self, skew: int = 0) -> UUID:
        """Return a UUIDv7 of the example's clock, the same in each run of the example. skew: milliseconds."""
        milliseconds = self.clock.now * 1000 + skew
        return UUID(int=milliseconds << 80 | 7 << 76 | next(self._numbers) << 64 | 2 << 62 | 1)

    def _job(self, nth: int) -> UUID:
        return self.jobs[-1 - nth] if nth < len(self.jobs) else self._id()

    def _ids(self, several: list[int]) -> list[UUID]:
        return [self._job(nth) for nth in several]

    def _run_of(self, nth: int) -> tuple[UUID, int]:
        """Return a run by index: first the running ones, newest first, then the ended ones, then an unknown one."""
        going = {known.run for known in self.model.jobs.values() if known.state is JobState.PROCESSING}
        runs = sorted(self.claimed, key=lambda each: (each[1] in going, each[1]), reverse=True)
        return runs[nth] if nth < len(runs) else (self._job(nth), 10**6)

    def _worker(self, nth: int) -> WorkerInfo:
        return self.workers[nth % len(self.workers)] if self.workers else self._info()

    def _info(self, kinds: tuple[str, ...] = KINDS, queues: tuple[str, ...] = QUEUES) -> WorkerInfo:
        number = next(self._numbers)
        return WorkerInfo(
            id=self._id(), name=f"w{number}", host="here", pid=number, queues=queues, kinds=kinds, concurrency=1,
            lost_after=LOST_AFTER,
        )  # fmt: skip

    def _when(self, when: tuple[float | None, bool]) -> Any:
        """Return the delay in seconds, or the moment after it."""
        delay, as_moment = when
        return moment(self.model.now) + timedelta(seconds=delay) if delay is not None and as_moment else delay

    def _own_when(self, when: tuple[float | None, bool]) -> Any:
        """Return a different moment each time: jobs that become pending at the same moment have no order."""
        delay, as_moment = when
        if delay is not None and delay > 0:
            delay += next(self._numbers) / 1000
        return self._when((delay, as_moment))

    def ask(self, operation: str, *arguments: Any, **named: Any) -> Any:
        """Run an operation on the model and all storages, compare the answers, and return the model's."""
        Machine.asked.add(operation)
        try:
            expected = self.reading.translate(getattr(self.model, operation)(*arguments, **named))
        except JobQueueError as error:
            expected = said(error)
        answers = self.run(each(self.parties, lambda party: party.ask(operation, *arguments, **named)))
        self.agree(operation, expected, answers)
        return expected

    def agree(self, what: str, expected: Any, answers: list[Any]) -> None:
        for party, answer in zip(self.parties, answers, strict=True):
            if answer != expected:
                raise AssertionError(f"{what}: {party.name} says {difference(answer, expected)}")

    def in_order(self) -> None:
        """Disable and enable jobs whose order is open, one by one, so that all storages order them alike."""
        for job_id in self.model.open_order:
            self.ask("disable", [job_id])
            self.ask("enable", [job_id])
        self.model.open_order = []

    # Adding

    @initialize(workers=st.integers(0, 3), jobs=st.lists(new_jobs, max_size=8))
    def set_up(self, workers: int, jobs: list[dict[str, Any]]) -> None:
        for _ in range(workers):
            self.workers.append(self._info())
            self.ask("register", self.workers[-1])
        self._add([NewJob(id=self._id(), **options) for options in jobs])

    def _add(self, batch: list[NewJob]) -> None:
        created = [one.id for one in self.ask("add", batch) if one.created]
        self.jobs += created
        self.marked.difference_update(created)  # of a job that was deleted, and is added again

    @rule(additions=st.lists(additions, max_size=4))
    def add(self, additions: list[Any]) -> None:
        batch: list[NewJob] = []
        for options, run_at, deadline, again, skew in additions:
            known = again is not None and again < len(self.jobs)
            job_id = self._job(again) if known else self._id(skew)
            options = {**options, "run_at": self._when(run_at), "deadline": self._when(deadline)}
            # A job that is twice in a batch is the same job: different jobs never share an id.
            batch.append(next((job for job in batch if job.id == job_id), NewJob(id=job_id, **options)))
        self._add(batch)

    @rule(count=st.integers(1, 3), options=new_jobs)
    def add_alike(self, count: int, options: dict[str, Any]) -> None:
        self._add([NewJob(id=self._id(), **options) for _ in range(count)])

    # Settling and claiming

    @rule(who=nth, limit=st.integers(1, 3))
    def claim(self, who: int, limit: int) -> None:
        self._settle_and_claim(self._worker(who), [], Claim.of(*QUEUES, limit=limit))

    @rule(
        runs=st.lists(st.tuples(st.sampled_from([0, 0, 0, 1, 2]), endings, st.sampled_from([None, 50.0])), min_size=1)
    )
    def work(self, runs: list[Any]) -> None:
        for nth, ending, delay in runs:
            job_id, run = self._run_of(nth)
            settlement = Settlement(id=job_id, lease=run, when=self._own_when((delay, False)), **ending)
            self._settle_and_claim(self._worker(run), [settlement], Claim.of(*QUEUES, limit=1))

    @rule(
        who=nth,
        settlements=st.lists(settlements, max_size=4),
        line=st.sampled_from([("a",), ("a", "b"), ("b", "a"), ("a", "b", "a"), ("c", "b"), (), None]),
        most=st.sampled_from([None, None, 1]),
        limit=st.sampled_from([0, 1, 2, 10]),
        size=st.sampled_from([None, None, 1, 7, 12]),
        kinds=st.sampled_from(KNOWN_KINDS),
        children=st.lists(new_jobs, max_size=2),
    )
    def settle_and_claim(
        self,
        who: int,
        settlements: list[Any],
        line: tuple[str, ...] | None,
        most: int | None,
        limit: int,
        size: int | None,
        kinds: tuple[tuple[str, str], ...],
        children: list[dict[str, Any]],
    ) -> None:
        batch = []
        for nth, options, when in settlements:
            job_id, run = self._run_of(nth)
            born = tuple(NewJob(id=self._id(), **child) for child in children)
            batch.append(Settlement(id=job_id, lease=run, when=self._own_when(when), jobs=born, **options))
        claim = None
        if line is not None:
            # Which queue's jobs are freed first, up to the limit, is not said.
            queues = line[:1] if kinds else line
            claim = Claim(tuple(Line(queue, most) for queue in queues), limit, max_bytes=size, kinds=kinds)
        before = set(self.model.jobs)
        self._settle_and_claim(self._worker(who), batch, claim)
        self.jobs += [job_id for job_id in self.model.jobs if job_id not in before]

    def _settle_and_claim(self, worker: WorkerInfo, batch: list[Settlement], claim: Claim | None) -> None:
        _, claimed, *_ = self.ask("settle_and_claim", worker.id, batch, claim)
        self.claimed += [(fields[0], fields[1]) for fields in claimed]

    @rule(runs=st.lists(st.sampled_from([0, 0, 1, 2, 3, 9]), min_size=1, max_size=4), other=rarely, who=nth)
    def mark_started(self, runs: list[int], other: bool, who: int) -> None:
        leases = [self._run_of(nth) for nth in runs]
        known = self.model.jobs.get(leases[0][0])
        holder = None if known is None else known.worker
        self.ask("mark_started", self._worker(who).id if other or holder is None else holder, leases)

    @rule(
        options=new_jobs,
        fates=st.lists(
            st.tuples(st.booleans(), st.sampled_from([None, None, "abort", "disable"])), min_size=2, max_size=4
        ),
    )
    def lose(self, options: dict[str, Any], fates: list[tuple[bool, str | None]]) -> None:
        """Let a worker claim jobs, mark some of them as started, and stop beating."""
        lost = self._info()
        self.ask("register", lost)
        self.in_order()
        self._add([NewJob(id=self._id(), **options) for _ in fates])
        self._settle_and_claim(lost, [], Claim.of(*QUEUES, limit=len(fates)))
        going = [(known.new.id, known.run) for known in self.model.jobs.values() if known.worker == lost.id]
        self.ask("mark_started", lost.id, [lease for lease, (begins, _) in zip(going, fates, strict=False) if begins])
        for (job_id, _), (_, request) in zip(going, fates, strict=False):
            if request is not None:
                self.ask(request, [job_id])
        self._advance(int(LOST_AFTER) // 2)
        self._renew(self.workers)
        self._advance(int(LOST_AFTER) // 2)
        self._rescue()

    @rule(who=nth, runs=several, reports=st.lists(st.tuples(nth, st.sampled_from([0.0, 50.5, 100.0]), texts, details)))
    def watch(self, who: int, runs: list[int], reports: list[Any]) -> None:
        worker = self._worker(who).id
        told = []
        for nth, percent, message, more in reports:
            job_id, run = self._run_of(nth)
            progress = Progress(percent=percent, message=message or None, details=more)
            told.append(ProgressReport(id=job_id, lease=run, progress=progress))
        self.ask("progress", worker, told)
        self.ask("check_leases", worker, [self._run_of(nth) for nth in runs])
        self.ask("recover_claims", worker, [self._run_of(nth)[1] for nth in runs])

    # Control

    @rule(operation=operations, several=several)
    def control(self, operation: str, several: list[int]) -> None:
        self.ask(operation, self._ids(several))

    @rule(changes=st.lists(st.tuples(operations, st.integers(0, 4)), min_size=1, max_size=6))
    def control_some(self, changes: list[tuple[str, int]]) -> None:
        for operation, nth in changes:
            # Prefer jobs in a state that only this operation changes.
            wanted = {"retry": (JobState.FAILED, JobState.ABORTED), "enable": (JobState.DISABLED,)}.get(operation, ())
            apt = [job_id for job_id, known in self.model.jobs.items() if known.state in wanted]
            self.ask(operation, [apt[-1 - nth] if nth < len(apt) else self._job(nth)])

    @rule(operation=alterations, several=several, delay=st.sampled_from(DELAYS), queue=queues, priority=priorities)
    def alter(self, operation: str, several: list[int], delay: float, queue: str, priority: int) -> None:
        """Change what some jobs wait for, mostly of those that wait or are PENDING."""
        unclaimed = [job_id for job_id, known in self.model.jobs.items() if known.state in UNCLAIMED]
        ids = [unclaimed[-1 - nth] if nth < len(unclaimed) else self._job(nth) for nth in several]
        values = {"reschedule": (self._when((delay, True)),), "move": (queue,), "set_priority": (priority,)}
        self.ask(operation, ids, *values.get(operation, ()))

    @rule(run_id=st.sampled_from(["t", "r", "s"]), clears=rarely, queue=st.sampled_from(["c", "a"]))
    def control_many(self, run_id: str, clears: bool, queue: str) -> None:
        self.ask("abort_run", run_id)
        if clears:
            self.ask("clear", queue)

    # Bulk operations

    @rule(
        action=st.sampled_from(Action),
        queue=st.none() | queues,
        states=states,
        delay=st.sampled_from(DELAYS),
        to=queues,
        priority=priorities,
        sizes=st.lists(st.integers(1, 3), max_size=3),
    )
    def begin(
        self,
        action: Action,
        queue: str | None,
        states: frozenset[JobState],
        delay: float,
        to: str,
        priority: int,
        sizes: list[int],
    ) -> None:
        """Add a bulk operation, and work off some slices."""
        values = {
            Action.RESCHEDULE: self._when((delay, True)).isoformat(),
            Action.MOVE: to,
            Action.PRIORITY: str(priority),
        }
        operation = Operation(
            id=self._id(),
            action=action,
            value=values.get(action),
            filter=JobFilter(queue=queue, states=states),
            before=first_id_after(moment(self.model.now)),
            actor="kai",
            created_at=moment(0),
        )
        self.ask("add_operation", operation)
        self.ask("add_operation", msgspec.structs.replace(operation, actor="eve"))
        for size in sizes:
            self._work_off(operation.id, size)

    def _work_off(self, operation: UUID, size: int) -> None:
        known = self.model.bulk[operation]
        Machine.asked.add({Action.PRIORITY: "set_priority"}.get(known.action, known.action.replace("-", "_")))
        expected = self.model.work_off(operation, size)
        self.agree("work", expected, self.run(each(self.parties, lambda party: work(party.storage, known, slice=size))))

    @precondition(lambda self: self.model.bulk)
    @rule(nth=nth, size=st.integers(1, 3), cancels=rarely, saves=st.booleans(), ends=st.booleans(), late=st.booleans())
    def go_on(self, nth: int, size: int, cancels: bool, saves: bool, ends: bool, late: bool) -> None:
        """Work off a slice, or save one that another process has worked off, in time or late; perhaps cancel before."""
        known = list(self.model.bulk.values())[-1 - nth % len(self.model.bulk)]
        if cancels:
            self.ask("cancel_operation", known.id)
        if saves:
            state = OperationState.DONE if ends else OperationState.RUNNING
            worked = msgspec.structs.replace(known, cursor=self._job(nth), done=known.done + size, state=state)
            self.ask("save_operation", worked, seen=self._id() if late else known.cursor)
        else:
            self._work_off(known.id, size)
        self.ask("operations")
        self.ask("operations", running=True)
        self.ask("operations", [known.id, self._id()])

    # Reading

    @rule(
        several=several,
        queue=st.none() | queues,
        states=states,
        kinds=st.sampled_from([(), ("count",), KINDS, ("rare",)]),
        tags=tags,
        run_id=st.sampled_from([None, "r"]),
        after=st.none() | nth,
        limit=st.sampled_from([1, 2, 3, 100]),
    )
    def read(self, several: list[int], after: int | None, limit: int, **wanted: Any) -> None:
        self.ask("get", self._ids(several))
        self.ask("get_status", self._ids(several))
        self.ask("counts", wanted["queue"])
        self.ask("output_for", wanted["queue"] or "a", "count", bytes(16))
        cursor = None if after is None else self._job(after)
        while True:
            _, cursor = self.ask("find", JobFilter(**wanted), after=cursor, limit=limit)
            if cursor is None:
                break

    # Workers

    @rule(kinds=st.sampled_from([KINDS, ("count",)]), queues=st.sampled_from([QUEUES, ("b",), ("a", "a", "b")]))
    def register(self, **knows: Any) -> None:
        self.workers.append(self._info(**knows))
        self.ask("register", self.workers[-1])
        self.in_order()

    @rule(who=nth, kinds=st.sampled_from([KINDS, ("shout",)]))
    def register_again(self, who: int, kinds: tuple[str, ...]) -> None:
        worker = msgspec.structs.replace(self._worker(who), kinds=kinds)
        if worker.id not in [known.id for known in self.workers]:
            self.workers.append(worker)
        self.ask("register", worker)
        self.in_order()

    @rule(who=nth, completed=st.integers(0, 9))
    def beat(self, who: int, completed: int) -> None:
        Machine.asked.add("heartbeat")
        worker = self._worker(who)
        stats = WorkerStats(completed=completed, busy_seconds=completed / 4, unknown_kinds={"ü": completed})

        async def beat(party: Party) -> bool:
            heartbeat = party.storage.heartbeat(worker)
            try:
                return await asyncio.to_thread(heartbeat.beat, stats)
            finally:
                await asyncio.to_thread(heartbeat.close)

        self.agree("beat", self.model.beat(worker.id, stats), self.run(each(self.parties, beat)))

    @rule(who=nth, term=st.sampled_from([10.0, 60.0]), resigns=st.booleans(), leaves=rarely)
    def lead(self, who: int, term: float, resigns: bool, leaves: bool) -> None:
        worker = self._worker(who).id
        self.ask("lead", worker, term)
        if resigns:
            self.ask("resign", worker)
        if leaves:
            self.ask("deregister", worker)

    # Time, and maintenance

    @rule(seconds=st.sampled_from(STRIDES), alive=st.sampled_from([True, True, False]))
    def pass_time(self, seconds: int, alive: bool) -> None:
        self._advance(seconds)
        if alive:
            self._renew(self.workers)

    def _renew(self, workers: Sequence[WorkerInfo]) -> None:
        for worker in workers:
            if worker.id in self.model.known_workers:
                self.ask("register", worker)
                self.in_order()

    def _advance(self, seconds: int) -> None:
        self.clock.now += seconds
        self.model.now += seconds * 1_000_000
        self.run(self.schema.set_clock(self.clock.now))

    def _rescue(self) -> None:
        started = {job_id: known.start_marked for job_id, known in self.model.jobs.items()}
        attempts = {job_id: known.attempt for job_id, known in self.model.jobs.items()}
        for lost in self.ask("rescue"):
            for rescued in lost.jobs:
                counted = "counted" if rescued.attempt == attempts[rescued.id] else "uncounted"
                Machine.rescued["started" if started[rescued.id] else counted, rescued.state] += 1
        self.in_order()

    @rule(limit=st.sampled_from([1, 3, 1000, 1000]))
    def maintain(self, limit: int) -> None:
        self._rescue()
        Machine.asked.add("promote")
        limit = 1000 if self.model.open_ties() else limit
        expected = self.model.promote(limit)
        for answer in self.run(each(self.parties, lambda party: party.ask("promote", limit))):
            assert answer.promoted == expected.promoted
            # After `limit` promotions, a storage may answer 0 instead.
            assert answer.next_in == expected.next_in or (expected.promoted == limit and answer.next_in == 0)
        self.in_order()

    @rule(
        queue=queues,
        kept=st.tuples(*[st.sampled_from([None, 0.0, 100.0, 3600.5, 86_400.0])] * 3),
        limit=st.sampled_from([1, 10_000]),
    )
    def retain(self, queue: str, kept: tuple[float | None, ...], limit: int) -> None:
        completed, failed, aborted = kept
        retention = Retention(completed=completed, failed=failed, aborted=aborted)
        self.ask("set_queue", queue, QueueOptions(retention=retention))
        # The order of pruning is open; all due jobs must be pruned in the end.
        counted = self.model.prune(limit)
        pruned = self.run(each(self.parties, lambda party: party.ask("prune", limit)))
        self.agree("prune", counted, pruned)
        left = self.model.prune()
        pruned = self.run(each(self.parties, lambda party: party.ask("prune")))
        self.agree("prune", left, pruned)
        Machine.asked.add("prune")

    @rule(several=several)
    def keep(self, several: list[int]) -> None:
        """Admit some jobs, let others expire, and resolve followed ones that ended."""
        self.ask("admit", list(dict.fromkeys(self._ids(several))))
        self.ask("expire")
        self.ask("resolve")

    @rule(several=several)
    def mark(self, several: list[int]) -> None:
        """Write to the tokens of jobs what only a newer version knows."""
        marked = {job_id for job_id in self._ids(several) if job_id in self.model.jobs}
        self.run(mark_on_postgres(self.schema, marked))
        mark_on_sqlite(self.folder / "jobs.db", marked)
        self.marked |= marked

    def marks_are_kept(self) -> None:
        """Check that no transition has lost what a newer version wrote."""
        left = self.marked & self.model.jobs.keys()
        assert self.run(marked_on_postgres(self.schema)) >= left
        assert marked_on_sqlite(self.folder / "jobs.db") >= left

    # The same operations through clients

    def client(self, what: str, expected: Any, use: Callable[[JobQueueClient], Any], new: Sequence[UUID] = ()) -> Any:
        """Call each client and compare the answers. new: ids of added jobs. expected: None compares only clients."""

        async def ask(party: Party) -> Any:
            ids = iter(new)
            with (
                mock.patch("jobq_client.adding.new_id", side_effect=ids),
                mock.patch("jobq_client.bulk.new_ids", return_value=new),
            ):
                return await use(self.clients[party.name])

        async def one_by_one() -> list[Any]:
            # The patches apply to the module, so the clients run one at a time.
            return [(await each([party], ask))[0] for party in self.parties]

        answers = self.run(one_by_one())
        self.agree(what, answers[0] if expected is None else expected, answers)
        return answers[0]

    @rule(
        word=st.sampled_from(["a", "ü", "lone \ud800", "nul \0"]),
        n=st.sampled_from([0, 1, 2**63 - 1, 2**64, float("nan"), "no number"]),
        queue=st.sampled_from([None, "a", "b", ""]),
        priority=st.sampled_from([None, 0, 100, 101]),
        delay=st.sampled_from([None, 0, 50.0, -1.0]),
        unique=words,
        many=st.sampled_from([0, 2, None, None]),
        tags=tags,
    )
    def client_adds(self, word: str, n: Any, many: int | None, **options: Any) -> None:
        given = {name: value for name, value in options.items() if value is not None}
        kinds: list[Callable[[], Any]] = [lambda: count(n), lambda: shout(word)]
        new = [self._id() for _ in kinds[: 1 if many is None else many]]

        async def use(client: JobQueueClient) -> Any:
            if many is None:
                handles = [await client.add(kinds[0](), **given)]
            else:
                handles = await client.add_many([make() for make in kinds[:many]], **given)
            return [(handle.id, handle.created) for handle in handles]

        expected: Any = None
        try:
            used = kinds[: 1 if many is None else many]
            batch = [
                new_job(job_id, make(), "a", cast("AddOptions", given)) for job_id, make in zip(new, used, strict=True)
            ]
        except (JobQueueError, TypeError):
            pass  # refused with the same message before any storage is called
        else:
            added = self.model.add(batch)
            expected = [(one.id, one.id == job_id) for one, job_id in zip(added, new, strict=True)]
            self.jobs += [one.id for one in added if one.created]
        self.client("client.add", expected, use, new)

    @rule(operation=operations, nth=nth)
    def client_controls(self, operation: str, nth: int) -> None:
        job_id = self._job(nth)
        expected: Any
        (change,) = getattr(self.model, operation)([job_id])
        try:
            expected = _as_a_client(operation, change)
        except JobQueueError as error:
            expected = said(error)
        self.client(f"client.{operation}", expected, lambda client: getattr(client, operation)(job_id))

    @rule(nth=nth, queue=st.sampled_from([None, "a", "b"]), n=st.integers(0, 2), limit=st.sampled_from([1, 2, 1000, 0]))
    def client_reads(self, nth: int, queue: str | None, n: int, limit: int) -> None:
        job_id = self._job(nth)
        ended = self.client("client.wait_for", None, lambda client: client.wait_for(job_id, timeout=0))
        known = self.model.jobs.get(job_id)
        if known is None:
            assert ended[0] == "JobNotFoundError"
        elif known.state is JobState.COMPLETED:
            assert ended == msgspec.json.decode(known.result or b"null")
        elif known.state in (*OVER, JobState.DISABLED):
            assert known.error is None or known.error.message in ended[1]
        else:
            assert ended[0] == "WaitTimeoutError"
            assert f": it is {known.state}" in ended[1]
        if known is not None:
            self.client("client.progress_of", known.progress, lambda client: client.progress_of(job_id))
        self.client("client.counts", dict(self.model.counts(queue or "a")[queue or "a"]), lambda c: c.counts(queue))
        self.client("client.find_output", None, lambda client: client.find_output(count(n)))

        async def pages(client: JobQueueClient) -> list[UUID]:
            return [record.id async for record in client.find_all(queue=queue, page_size=limit)]

        found = [record.id for record in self.model.find(JobFilter(queue=queue), limit=10_000).jobs]
        self.client("client.find_all", found if limit else None, pages)

    # After each step

    @invariant()
    def all_storages_agree(self) -> None:
        Machine.steps += 1
        for job_id, known in self.model.jobs.items():
            before = self.states.get(job_id)
            if before is not None and before is not known.state:
                Machine.moves.add((before, known.state))
        self.states = {job_id: known.state for job_id, known in self.model.jobs.items()}
        self.ask("find", JobFilter(), limit=10_000)
        self.ask("counts")
        self.ask("workers")
        expected, self.model.notified = self.model.notified, set()
        for party, notified in zip(self.parties, self.run(each(self.parties, _notified)), strict=True):
            assert expected <= notified, f"{party.name} did not notify {expected - notified}"

    @precondition(lambda self: self.jobs)
    @rule()
    def now_is_the_storages_time(self) -> None:
        Machine.asked.add("now")
        self.agree("now", moment(self.model.now), self.run(each(self.parties, lambda party: party.storage.now())))

    def _drain(self) -> None:
        """Run all unfinished jobs: each storage gives them in the same order."""
        self._advance(10 * 86_400)
        self._rescue()
        worker = self._info()
        self.ask("register", worker)
        self.in_order()
        self.ask("enable", [job_id for job_id, known in self.model.jobs.items() if known.state is JobState.DISABLED])
        self.model.promote()
        self.run(each(self.parties, lambda party: party.ask("promote")))
        self.in_order()
        blocked = {job_id: known for job_id, known in self.model.jobs.items() if known.state is JobState.BLOCKED}
        self.ask("admit", [job_id for job_id, known in blocked.items() if known.reason == GATED])
        self.ask("abort", [job_id for job_id, known in blocked.items() if known.reason not in (GATED, *SUSPENDED)])
        kinds = tuple((kind, "another") for kind in KINDS)
        while True:
            _, claimed, *_ = self.ask("settle_and_claim", worker.id, [], Claim.of(*QUEUES, limit=10, kinds=kinds))
            if not claimed:
                gated = [job_id for job_id, known in self.model.jobs.items() if known.reason == GATED]
                if not self.ask("admit", gated):
                    break
                continue
            done = [
                Settlement(id=fields[0], lease=fields[1], ending=Ending.COMPLETE, result=b"1") for fields in claimed
            ]
            self.ask("settle_and_claim", worker.id, done)
        left = [known.state for known in self.model.jobs.values() if known.state not in OVER]
        assert not left
        self.all_storages_agree()
        self.marks_are_kept()
        self._forget()

    def _forget(self) -> None:
        """End all bulk operations, and prune when they are to be kept no longer."""
        for operation in list(self.model.bulk):
            self.ask("cancel_operation", operation)
        self._advance(AUDIT_DAYS * 86_400)
        self.ask("prune")
        assert self.ask("operations") == []


async def _notified(party: Party) -> frozenset[str]:
    return await party.subscription.wait(0)


def _as_a_client(operation: str, change: Change) -> bool:
    """Return or raise what a client does after a change, according to its docstrings."""
    if change.before is None:
        reason = "it was never added, was deleted, or was pruned after its retention"
        raise JobNotFoundError(f"no job {change.id}: {reason}")
    changed = change.asked or change.before is not change.after
    if operation == "retry" and not changed and change.before in (JobState.FAILED, JobState.ABORTED):
        raise JobStateError(f"job {change.id} cannot be retried now: its unique key belongs to another job")
    return changed


@pytest.fixture(scope="module")
def server() -> Iterator[ThrowawayPostgres]:
    with ThrowawayPostgres() as server:
        yield server


@pytest.fixture
def environment(server: ThrowawayPostgres, tmp_path: Path) -> Iterator[tuple[asyncio.Runner, PostgresSchema, Path]]:
    schema = PostgresSchema(server.dsn, f"jobq_{uuid.uuid4().hex[:12]}")
    with asyncio.Runner() as runner:
        runner.run(schema.make())
        yield runner, schema, tmp_path
        runner.run(schema.close())


ELSEWHERE = {
    # They change no job; every step uses `subscribe`.
    *("open", "close", "migrate", "migration_sql", "from_url", "url", "subscribe"),
    # It needs a caller's transaction, which memory has not.
    "complete",
    # They read options of queues, statistics and depths, and how long a line is: the conformance suite compares them.
    *("queues", "statistics", "depths", "depth_history", "sample_depths", "jobs_ahead", "overdue", "count"),
    # Rows of operators, each written once and read as it is, which no job and no other step depends on: the conformance
    # suite shows them, and `test_nth_statement.py` what a fault leaves of them.
    *("record_audit", "audit"),
    *("ask_worker", "worker_requests", "answer_request", "get_requests"),
}
"""Members of the contract that no step tries."""


def play(seed: int, examples: int) -> None:
    """Run `examples` sequences of steps."""
    run_state_machine_as_test(
        seeded(seed)(type("Machine", (Machine,), {})),
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )


@pytest.mark.timeout(3600)
def test_all_storages_behave_alike(
    environment: tuple[asyncio.Runner, PostgresSchema, Path], seed: int, scale: Scale, report: Callable[..., None]
) -> None:
    Machine.environment = environment
    Machine.steps = Machine.jobs_added = Machine.runs_started = 0
    Machine.moves.clear()
    Machine.asked.clear()
    Machine.rescued.clear()
    # A job that started its last attempt has spent it; a job that never started has not, and stops if it was asked to.
    ways = [("started", state) for state in (JobState.FAILED, *STOPPED)] + [("uncounted", state) for state in STOPPED]
    operations = {name for name in QueueStorage.__abstractmethods__ if name not in ELSEWHERE}

    def all_seen() -> bool:
        states = {after for _, after in Machine.moves}
        return Machine.asked >= operations and states == set(JobState) and all(Machine.rescued[way] for way in ways)

    # Examples are drawn at random: a rare case may need another round.
    for round_ in range(20 if scale.is_smallest else 5):
        play(seed + round_, scale.times(120, least=15))
        if all_seen():
            break
    report(
        "operations on all storages, compared",
        tried=Machine.steps,
        added=Machine.jobs_added,
        runs=Machine.runs_started,
    )
    assert Machine.asked >= operations
    assert {after for _, after in Machine.moves} == set(JobState)
    assert all(Machine.rescued[way] for way in ways), Machine.rescued
    assert ("uncounted", JobState.FAILED) not in Machine.rescued


def test_every_operation_of_the_contract_is_covered() -> None:
    public = {name for name, _ in inspect.getmembers(QueueStorage) if not name.startswith("_")}
    assert QueueStorage.__abstractmethods__ <= public
    assert not (ELSEWHERE - public)
