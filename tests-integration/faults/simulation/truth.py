"""What the storage holds: every operation passes through here, and the state is compared before and after.

The checks do not rely on what the storage could itself get wrong: a worker is alive by the beats that took effect, and
a lease ends when its row leaves the running jobs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Coroutine, Sequence
from typing import Any
from uuid import UUID

import attrs
from wrong import Wrong, WrongInside

from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import WorkerInfo, WorkerStats
from jobq_core.states import FINISHED, Ending, JobState
from jobq_core.storage import SettleAndClaimResult, Settlement

from .journal import Journal
from .lines import Lines
from .requests import Requests
from .world import World


@attrs.define(eq=False)
class Lease:
    """One claim of one job. pending: when the job became PENDING. serving: the worker processes that were registered
    then, and since when. needs_mark: whether its run must be marked as started first; marked: when it was. ended_by:
    the operation that ended it; state: of the job then, None if it was deleted; silent: seconds since its worker's last
    heartbeat, if it was rescued."""

    number: int
    job: UUID
    worker: UUID
    claimed: float
    attempt: int
    needs_mark: bool
    pending: float
    serving: dict[str, float]
    marked: float | None = None
    ended: float | None = None
    ended_by: str | None = None
    state: JobState | None = None
    silent: float = 0.0


class Truth:
    """Checks each operation of a memory storage. asking: name of the process whose call takes effect."""

    def __init__(self, world: World, storage: MemoryQueueStorage, journal: Journal) -> None:
        self._world = world
        self._storage = storage
        self._journal = journal
        self._alive: dict[UUID, float] = {}
        self._claims: Counter[UUID] = Counter()
        """Number of claims of each job, less those handed back uncounted and those rescued before their run was marked
        as started."""
        self._beaten: dict[UUID, float] = {}
        self._hearts: dict[UUID, Any] = {}
        self._serving: dict[UUID, tuple[str, float]] = {}
        """The name of each registered worker's process, and when it registered."""
        self.store = storage._store
        self.leases: dict[int, Lease] = {}
        self.asking = "the world"
        self.asked_under_way = 0
        """Number of client calls that have not taken effect yet."""
        self.asked: defaultdict[UUID, Counter[str]] = defaultdict(Counter)
        """How often each control operation changed a job."""
        self.failures: set[tuple[UUID, int | None]] = set()
        """The jobs that failed, and when."""
        self.requests = Requests()
        self.lines = Lines()

    def open(self) -> None:
        """Open the storage."""
        _at_once(self._storage.open())

    def perform(self, name: str, args: Sequence[Any], options: dict[str, Any]) -> Any:
        """Run an operation of the storage now, and check what it did."""
        before = dict(self.store.running)
        answer = _at_once(getattr(self._storage, name)(*args, **options))
        if name not in _READING:
            self._look(name, args, before, answer)
            failed = [row for row in self.store.jobs.values() if row.state is JobState.FAILED]
            self.failures.update((row.job.id, row.finished_at) for row in failed)
            self._look_at_lines(name, args, before)
            self._check(name, args, answer)
        return answer

    def beat(self, worker: WorkerInfo, stats: WorkerStats) -> bool:
        """Run a beat of a worker's heartbeat."""
        heartbeat = self._hearts.get(worker.id)
        if heartbeat is None:
            heartbeat = self._hearts[worker.id] = self._storage.heartbeat(worker)
        alive: bool = heartbeat.beat(stats)
        if alive:
            if worker.id not in self._alive:
                self._journal.violated(WrongInside.LOST_LIVES, f"worker {worker.id} was lost, and its beat succeeds")
            self._lives(worker)
        return alive

    def most_attempts(self, job: UUID) -> int:
        """Return the most attempts that a job may have: one more for each time it was enabled."""
        row = self.store.jobs.get(job)
        return 0 if row is None else row.job.max_attempts + self.asked[job]["enable"]

    def jobs_that_were(self, what: str) -> frozenset[UUID]:
        """Return the jobs that a control operation changed."""
        return frozenset(job for job, times in self.asked.items() if times[what])

    def _lives(self, worker: WorkerInfo) -> None:
        self._beaten[worker.id] = self._world.now
        self._alive[worker.id] = self._world.now + worker.lost_after

    def is_held(self, lease: int, job: UUID) -> bool:
        """Return whether a lease is held now."""
        row = self.store.running.get(lease)
        return row is not None and row.job.id == job

    def state_of(self, job: UUID) -> JobState | None:
        """Return the state of a job now."""
        row = self.store.jobs.get(job)
        return None if row is None else row.state

    def held_keys(self) -> dict[str, UUID]:
        """Return the unique keys that belong to a job now."""
        return {key: job for queue in self.store.queues.values() for key, job in queue.keys.items()}

    def _look(self, name: str, args: Sequence[Any], before: dict[int, Any], answer: Any) -> None:
        running, now = self.store.running, self._world.now
        if running == before:
            return
        settled: dict[int, Settlement] = {each.lease: each for each in args[1]} if name == "settle_and_claim" else {}
        # A job that was put back may be claimed again in the same call: its state is the answer's.
        states = dict(zip(settled, answer.settled, strict=True)) if settled else {}
        for lease, row in before.items():
            if lease in running:
                continue
            known = self.leases[lease]
            known.ended, known.ended_by, known.state = now, name, states.get(lease) or self.state_of(known.job)
            self._world.note(self.asking, "ends lease %d by %s: %s", lease, name, known.state)
            if name == "rescue" and known.worker in self._beaten:
                known.silent = now - self._beaten[known.worker]
            if name == "rescue" and self._alive.get(known.worker, 0.0) > now:
                self._journal.violated(
                    Wrong.LOST_WITHOUT_CAUSE,
                    f"lease {lease} of {known.worker}, alive until {self._alive[known.worker]:.3f}",
                )
            if name == "rescue":
                self._rescued(known, row.attempt)
            if name == "rescue" or lease in settled:
                ending = None if name == "rescue" else settled[lease].ending
                if (wrong := self.requests.ended(known.job, ending, known.state)) is not None:
                    self._journal.violated(Wrong.LAST_WORD, f"job {known.job}: {wrong}")
            else:
                self.requests.ended(known.job, None, None)
            if lease in settled and gives_back(settled[lease].ending, known.state):
                self._claims[known.job] -= 1
            if name == "settle_and_claim" and lease not in settled:
                self._journal.violated(Wrong.STALE_WRITE, f"{self.asking} ended lease {lease} of job {row.job.id}")
        for lease, row in running.items():
            if lease not in before:
                self._claimed(lease, row, now)
        if len({row.job.id for row in running.values()}) < len(running):
            twice = [job for job, times in Counter(row.job.id for row in running.values()).items() if times > 1]
            self._journal.violated(Wrong.DOUBLY_OWNED, f"jobs {twice} have two leases")

    def _look_at_lines(self, name: str, args: Sequence[Any], before: dict[int, Any]) -> None:
        claimed = {row.job.id for lease, row in self.store.running.items() if lease not in before}
        settled = {each.id: each for each in args[1]} if name == "settle_and_claim" else {}
        passed = self.lines.passed_over(self.store.jobs, claimed, settled, self._world.now, add=name == "add")
        if passed is not None:
            self._journal.violated(Wrong.OUT_OF_LINE, passed)

    def _rescued(self, lease: Lease, attempt: int) -> None:
        """Check the number of counted attempts after a rescue."""
        if lease.needs_mark and lease.marked is None:
            self._claims[lease.job] -= 1
        if attempt != self._claims[lease.job]:
            self._journal.violated("attempt miscounted", f"{lease} was rescued, and {attempt} attempts count")

    def _claimed(self, lease: int, row: Any, now: float) -> None:
        assert row.worker is not None
        # The first of several attempts counts from the claim on; any other once it is marked as started.
        needs_mark = row.attempt > 1 or row.job.max_attempts == 1
        pending, serving = self.lines.since.get(row.job.id, now), dict(self._serving.values())
        self.leases[lease] = Lease(lease, row.job.id, row.worker, now, row.attempt, needs_mark, pending, serving)
        self._world.note(self.asking, "claims %s as attempt %d under lease %d", row.job.id, row.attempt, lease)
        if self._alive.get(row.worker, 0.0) <= now:
            self._journal.violated("claimed by the lost", f"worker {row.worker} claimed lease {lease}")
        self._claims[row.job.id] += 1
        if row.attempt != self._claims[row.job.id]:
            self._journal.violated("attempt miscounted", f"claim {self._claims[row.job.id]} has number {row.attempt}")
        if row.attempt > self.most_attempts(row.job.id):
            self._journal.violated(Wrong.TOO_MANY_ATTEMPTS, f"job {row.job.id} is claimed for attempt {row.attempt}")

    def _check(self, name: str, args: Sequence[Any], answer: Any) -> None:
        if name == "register":
            self._lives(args[0])
            self._serving[args[0].id] = (args[0].name, self._world.now)
        elif name == "deregister":
            self._alive.pop(args[0], None)
            self._serving.pop(args[0], None)
        elif name == "rescue":
            for lost in answer.workers:
                self._alive.pop(lost.worker, None)
                self._serving.pop(lost.worker, None)
                self._world.note(self.asking, "rescues %s: %s", lost.worker, [each.state for each in lost.jobs])
        elif name == "settle_and_claim":
            self._check_settled(args[1], answer)
        elif name == "mark_started":
            self._check_started(*args, answer)
        elif name in _CONTROL:
            for change in answer:
                self._world.note(self.asking, "%ss %s: %s to %s", name, change.id, change.before, change.after)
                if (wrong := self.requests.refusal(name, change)) is not None:
                    self._journal.violated(Wrong.LAST_WORD, f"job {change.id}: {wrong}")
                if change.changed:
                    self.asked[change.id][name] += 1
                    if name in ("retry", "delete"):
                        self._claims[change.id] = 0
        if name in ("add", "retry"):
            keys = Counter(
                (row.queue.name, row.job.unique_key)
                for row in self.store.jobs.values()
                if row.job.unique_key is not None and row.state not in FINISHED
            )
            if doubled := [key for key, times in keys.items() if times > 1]:
                self._journal.violated(Wrong.KEY_DOUBLED, f"{doubled}")

    def _check_started(self, worker: UUID, leases: Sequence[tuple[UUID, int]], answer: Sequence[bool]) -> None:
        for (job, number), stands in zip(leases, answer, strict=True):
            lease = self.leases[number]
            self._world.note(self.asking, "marks lease %d as started: %s", number, stands)
            if stands != (lease.ended is None and (lease.job, lease.worker) == (job, worker)):
                self._journal.violated("started without the lease", f"{self.asking} was told {stands} of {lease}")
            elif stands and lease.marked is None:
                lease.marked = self._world.now

    def _check_settled(self, settlements: Sequence[Settlement], answer: SettleAndClaimResult) -> None:
        for settlement, state in zip(settlements, answer.settled, strict=True):
            lease = self.leases.get(settlement.lease)
            if state is not None and (lease is None or lease.ended_by != "settle_and_claim" or lease.state is None):
                self._journal.violated(Wrong.STALE_WRITE, f"{settlement} counted as {state}, but the lease is {lease}")


_READING = frozenset(
    {"check_leases", "recover_claims", "get", "find", "counts", "get_status", "output_for", "workers", "now"}
)
_CONTROL = frozenset({"abort", "abort_run", "retry", "disable", "enable", "delete"})
BY_CLIENTS = _CONTROL | {"add"}
"""The operations of clients; some of them make ended jobs pending again."""


def gives_back(ending: Ending, state: JobState | None) -> bool:
    """Return whether a settlement gives the attempt back. A run that stopped for a request to disable, which was
    withdrawn since, is as if handed back."""
    if ending is Ending.DISABLE:
        return state in (JobState.PENDING, JobState.BLOCKED)
    return ending in (Ending.RELEASE, Ending.SNOOZE, Ending.SUSPEND)


def _at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits; none of the memory storage's does."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the memory storage waited")
