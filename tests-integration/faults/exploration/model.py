"""The model: what the storage holds, what each worker believes, and the calls and answers between them.

Its rules are written from what is promised, never from the code: a rule that the code has wrong must not be wrong here
too. It leaves out queues, priorities, delays and results, which the promises checked here do not depend on. Time is
counted in ticks: a worker's row lives for `LIFE` ticks after a beat took effect; the worker believes in its leases for
`BELIEF` ticks after it *sent* a beat that succeeded.

A step is one atomic change: a transaction of the storage, or the code of a worker between two awaits. A call takes
effect and is answered in one step, except for a limited number of faults (`Luck`): a call never arrives or is delayed,
or its answer is delayed or lost; its caller waits or has given up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

LIFE = 3
BELIEF = 2
MAX_ATTEMPTS = 2
MOST_LEASES = 3
"""Most leases per job; states beyond it are not followed. A worker may hand jobs back and claim them again forever."""

JobState = Literal["pending", "processing", "disabled", "completed", "failed", "aborted"]
Phase = Literal["buffered", "running", "complete", "fail", "retry", "release", "abort", "disable"]
"""Phase of a run: claimed but not started (also while a `mark_started` call is under way), running, or ended and to be
settled."""
ENDED = ("complete", "fail", "retry", "release", "abort", "disable")
Request = Literal["abort", "disable"]

Registration = tuple[int, int]
"""A worker process, and the number of its registration; each registration has its own id."""


class Job(NamedTuple):
    """A job's row. lease: the latest lease; most: most attempts; request: what its run was asked to do; marked: the run
    under the lease was marked as started.

    Kept by the model only: started: a bit for each lease that ran. word: the last request that was answered True. Each
    `enable` raises `most` by one: a job that was disabled in its last attempt runs once more."""

    state: JobState = "pending"
    lease: int = 0
    holder: Registration | None = None
    attempt: int = 0
    request: Request | None = None
    marked: bool = False
    started: int = 0
    word: Literal["abort", "disable", "enable"] | None = None
    most: int = MAX_ATTEMPTS


class Run(NamedTuple):
    """A claimed job in its worker."""

    job: int
    lease: int
    phase: Phase


class Worker(NamedTuple):
    """A worker process. sure: number of ticks for which it believes in its leases. busy, beating, marking: it waits for
    the answer to `settle_and_claim` or `recover_claims`, to a beat, to `mark_started`. unanswered: a claim was not
    answered, so the worker asks the storage what it claimed."""

    mode: Literal["up", "paused", "dead"] = "up"
    registration: int = 1
    sure: int = BELIEF
    runs: tuple[Run, ...] = ()
    busy: bool = False
    beating: bool = False
    marking: bool = False
    unanswered: bool = False


Kind = Literal["settle_and_claim", "recover_claims", "beat", "mark_started"]


class Call(NamedTuple):
    """A call under way. settled: the runs to settle, or the run to mark as started. age: ticks since it was sent.
    awaited: its caller still waits for the answer."""

    kind: Kind
    sender: Registration
    awaited: bool = True
    settled: tuple[Run, ...] = ()
    claims: bool = False
    known: tuple[tuple[int, int], ...] = ()
    age: int = 0


class Answer(NamedTuple):
    """An answer under way to a waiting caller. given: the (job, lease) pairs that were claimed, found or may start."""

    kind: Kind
    to: Registration
    settled: tuple[Run, ...] = ()
    given: tuple[tuple[int, int], ...] = ()
    alive: bool = True
    age: int = 0


class Luck(NamedTuple):
    """Number of faults of each kind that may still happen; it bounds the number of states.

    delays: of calls or answers; losses: calls or answers that never arrive, or that their callers give up on; requests:
    calls of abort, disable or enable."""

    delays: int = 1
    losses: int = 1
    pauses: int = 1
    crashes: int = 1
    failures: int = 1
    requests: int = 1


class State(NamedTuple):
    """The whole state at one moment. rows: each registered worker, and for how many ticks it still counts as alive."""

    jobs: tuple[Job, ...]
    rows: tuple[tuple[Registration, int], ...]
    workers: tuple[Worker, ...]
    calls: tuple[Call, ...] = ()
    answers: tuple[Answer, ...] = ()
    luck: Luck = Luck()


Step = tuple[str, State]
RESCUE = "the jobs of lost workers are rescued"


def start(workers: int, jobs: Sequence[int], luck: Luck = Luck()) -> State:  # noqa: B008  (it is immutable)
    """Return the state in which all jobs are added and all workers have just registered. jobs: the most attempts of
    each job."""
    return State(
        jobs=tuple(Job(most=most) for most in jobs),
        rows=tuple(((number, 1), LIFE) for number in range(workers)),
        workers=(Worker(),) * workers,
        luck=luck,
    )


class Model:
    """The steps that may follow a state. A mutant overrides one rule."""

    def steps(self, state: State) -> Iterator[Step]:
        """Yield each possible step and the state that it leads to."""
        for number, worker in enumerate(state.workers):
            yield from self.worker_steps(state, number, worker)
        for call in dict.fromkeys(state.calls):
            yield from self.call_steps(state, call)
        for answer in dict.fromkeys(state.answers):
            yield from self.answer_steps(state, answer)
        yield from self.maintenance_steps(state)

    # Steps of a worker

    def worker_steps(self, state: State, number: int, worker: Worker) -> Iterator[Step]:
        """Start, run and end jobs, call the storage, beat, be paused, killed or started again."""
        name, luck = f"worker {number}", state.luck
        if worker.mode == "dead":
            fresh = Worker(registration=worker.registration + 1)
            rows = (*state.rows, ((number, fresh.registration), LIFE))
            yield f"{name} is started again", with_worker(state, number, fresh)._replace(rows=rows)
            return
        if luck.crashes:
            dead = with_worker(state, number, Worker(mode="dead", registration=worker.registration, sure=0))
            yield (
                f"{name} is killed",
                unawaited(dead, number)._replace(luck=luck._replace(crashes=luck.crashes - 1)),
            )
        if worker.mode == "paused":
            yield f"{name} is resumed", with_worker(state, number, worker._replace(mode="up"))
            return
        if luck.pauses:
            paused = with_worker(state, number, worker._replace(mode="paused"))
            yield f"{name} is paused", paused._replace(luck=luck._replace(pauses=luck.pauses - 1))
        for run in worker.runs:
            yield from self.run_steps(state, number, worker, run)
        if not worker.sure and any(run.phase in ("buffered", "running") for run in worker.runs):
            yield f"{name} hands its jobs back, unsure of its leases", with_worker(state, number, self.unsure(worker))
        if not worker.beating and worker.sure < BELIEF:
            yield from self.asks(state, number, Call("beat", (number, worker.registration)))
        if not worker.busy and not over(state):
            yield from self.asking_steps(state, number, worker)

    def run_steps(self, state: State, number: int, worker: Worker, run: Run) -> Iterator[Step]:
        """Start or end a run, or let the worker learn the state of its lease."""
        name, job = f"worker {number}", state.jobs[run.job]
        if run.phase == "buffered" and self.may_start(worker):
            if not self.needs_mark(job):
                yield f"{name} starts job {run.job}", started(state, number, run)
            elif not worker.marking:
                yield from self.asks(state, number, Call("mark_started", (number, worker.registration), settled=(run,)))
        if run.phase == "running":
            yield f"{name} completes job {run.job}", with_worker(state, number, having(worker, run, "complete"))
            if state.luck.failures:
                spent = job.attempt >= job.most
                failed = with_worker(state, number, having(worker, run, "fail" if spent else "retry"))
                luck = state.luck._replace(failures=state.luck.failures - 1)
                yield f"{name} fails job {run.job}", failed._replace(luck=luck)
        if run.phase in ("buffered", "running"):
            if not held(state, number, worker, run):
                yield (
                    f"{name} learns that the lease of job {run.job} is lost",
                    with_worker(state, number, without(worker, run)),
                )
            elif job.request is not None:
                yield (
                    f"{name} learns of the {job.request} of job {run.job}",
                    with_worker(state, number, having(worker, run, job.request)),
                )

    def asking_steps(self, state: State, number: int, worker: Worker) -> Iterator[Step]:
        """Call the storage: settle ended runs and claim if there is room, or recover claims whose answer was lost."""
        sender = (number, worker.registration)
        if worker.unanswered and worker.sure:
            known = tuple((run.job, run.lease) for run in worker.runs)
            yield from self.asks(state, number, Call("recover_claims", sender, known=known))
        settled = tuple(run for run in worker.runs if run.phase in ENDED)
        claims = len(settled) == len(worker.runs) and worker.sure > 0
        if settled or claims:
            yield from self.asks(state, number, Call("settle_and_claim", sender, settled=settled, claims=claims))

    def asks(self, state: State, number: int, call: Call) -> Iterator[Step]:
        """Make a call: it takes effect and is answered, or a fault happens to it."""
        said = f"worker {number}: {call.kind}"
        if call.kind == "settle_and_claim":
            said += f" settling {[(run.job, run.phase) for run in call.settled]}{' and claiming' * call.claims}"
        if call.kind == "mark_started":
            said += f" of job {call.settled[0].job}"
        state = with_worker(state, number, waiting(state.workers[number], call.kind, True))
        effect, answer = self.effect(state, call)
        yield said, self.received(effect, number, answer)
        if state.luck.delays:
            luck = state.luck._replace(delays=state.luck.delays - 1)
            yield f"{said}; it is delayed", sending(state, call)._replace(luck=luck)
            yield f"{said}; its answer is delayed", answered(effect, answer)._replace(luck=luck)
        if state.luck.losses:
            yield f"{said}; it never arrives", self.given_up(state, call)
            yield f"{said}; its answer is lost", self.given_up(effect, call)
            yield (
                f"{said}; its caller gives up, and it arrives later",
                sending(self.given_up(state, call), call._replace(awaited=False)),
            )

    def may_start(self, worker: Worker) -> bool:
        """Return whether a worker may start a claimed job: only while it is sure of its leases."""
        return worker.sure > 0

    def needs_mark(self, job: Job) -> bool:
        """Return whether a run must be marked as started: all but the first of several attempts."""
        return job.attempt > 1 or job.attempt == job.most

    def unsure(self, worker: Worker) -> Worker:
        """Return the worker with all runs stopped that have not ended, to be handed back."""
        return worker._replace(
            runs=tuple(sorted(run if run.phase in ENDED else run._replace(phase="release") for run in worker.runs))
        )

    # Steps of calls and answers under way

    def call_steps(self, state: State, call: Call) -> Iterator[Step]:
        """Let a delayed call take effect, or let its caller give up."""
        said = f"the delayed {call.kind} of {call.sender}"
        gone = state._replace(calls=less(state.calls, call))
        effect, answer = self.effect(gone, call)
        yield f"{said} takes effect", answered(effect, answer) if call.awaited else effect
        if call.awaited and state.luck.losses:
            yield f"{said} loses its caller", sending(self.given_up(gone, call), call._replace(awaited=False))

    def given_up(self, state: State, call: Call) -> State:
        """Return the state after a caller gave up: the storage is unavailable to it."""
        number = call.sender[0]
        worker = state.workers[number]
        worker = waiting(worker, call.kind, False)._replace(unanswered=worker.unanswered or call.claims)
        luck = state.luck._replace(losses=state.luck.losses - 1)
        return with_worker(state, number, worker)._replace(luck=luck)

    def answer_steps(self, state: State, answer: Answer) -> Iterator[Step]:
        """Let a delayed answer arrive."""
        number = answer.to[0]
        if state.workers[number].mode == "up":
            gone = state._replace(answers=less(state.answers, answer))
            yield f"the answer to the {answer.kind} of {answer.to} arrives", self.received(gone, number, answer)

    def received(self, state: State, number: int, answer: Answer) -> State:
        """Return the state after a worker received an answer."""
        worker = state.workers[number]
        if answer.kind == "beat":
            return self.beaten(state, number, worker, answer)
        if answer.kind == "mark_started":
            return self.marked(with_worker(state, number, waiting(worker, "mark_started", False)), number, answer)
        runs = {run for run in worker.runs if run not in answer.settled}
        if answer.to[1] == worker.registration:  # otherwise they belong to an earlier registration
            runs |= {Run(job, lease, "buffered") for job, lease in answer.given}
        unanswered = worker.unanswered and self.keeps_recovering(answer)
        return with_worker(state, number, worker._replace(runs=tuple(sorted(runs)), busy=False, unanswered=unanswered))

    def marked(self, state: State, number: int, answer: Answer) -> State:
        """Return the state after the answer to `mark_started`: the run starts, unless it ended in between."""
        worker, (run,) = state.workers[number], answer.settled
        if answer.to[1] != worker.registration or run not in worker.runs:
            return state
        if not answer.given:
            return with_worker(state, number, without(worker, run))
        if not self.may_start(worker):
            return with_worker(state, number, having(worker, run, "release"))
        return started(state, number, run)

    def keeps_recovering(self, answer: Answer) -> bool:
        """Return whether a worker keeps recovering an unanswered claim: the claim may still take effect."""
        return True

    def beaten(self, state: State, number: int, worker: Worker, answer: Answer) -> State:
        """Return the state after a beat was answered: the worker is sure for longer, or registers again."""
        if answer.to[1] != worker.registration:
            return with_worker(state, number, worker._replace(beating=False))
        if answer.alive:
            sure = max(worker.sure, self.belief(answer))
            return with_worker(state, number, worker._replace(beating=False, sure=sure))
        # Ended runs are settled all the same: their leases may still be held.
        runs = tuple(run for run in worker.runs if run.phase in ENDED)
        fresh = Worker(registration=worker.registration + 1, runs=runs, busy=worker.busy, marking=worker.marking)
        rows = (*state.rows, ((number, fresh.registration), LIFE))
        return with_worker(state, number, fresh)._replace(rows=tuple(sorted(rows)))

    def belief(self, answer: Answer) -> int:
        """Return for how many ticks a beat makes its worker sure, counted from when the beat was sent."""
        return max(BELIEF - answer.age, 0)

    # The storage

    def effect(self, state: State, call: Call) -> tuple[State, Answer]:
        """Apply a call, and return the new state and the answer."""
        if call.kind == "beat":
            alive = self.renews(state, call.sender)
            rows = tuple(sorted({**dict(state.rows), call.sender: LIFE}.items())) if alive else state.rows
            return state._replace(rows=rows), Answer("beat", call.sender, alive=alive, age=call.age)
        if call.kind == "recover_claims":
            found = tuple(
                (number, job.lease)
                for number, job in enumerate(state.jobs)
                if job.holder == call.sender and (number, job.lease) not in call.known
            )
            return state, Answer("recover_claims", call.sender, given=found)
        if call.kind == "mark_started":
            (run,) = call.settled
            job = state.jobs[run.job]
            if job.state != "processing" or (job.lease, job.holder) != (run.lease, call.sender):
                return state, Answer("mark_started", call.sender, settled=call.settled)
            state = with_job(state, run.job, job._replace(marked=True))
            return state, Answer("mark_started", call.sender, settled=call.settled, given=((run.job, run.lease),))
        for run in call.settled:
            state = self.settle(state, run)
        given: tuple[tuple[int, int], ...] = ()
        if call.claims and self.may_claim(state, call.sender):
            for number, job in enumerate(state.jobs):
                if job.state == "pending":
                    lease = job.lease + 1
                    claimed = job._replace(
                        state="processing", lease=lease, holder=call.sender, attempt=job.attempt + 1, request=None
                    )
                    state, given = with_job(state, number, claimed), ((number, lease),)
                    break
        return state, Answer("settle_and_claim", call.sender, settled=call.settled, given=given)

    def renews(self, state: State, sender: Registration) -> bool:
        """Return whether a beat renews the row of its worker: only while the worker is registered."""
        return sender in dict(state.rows)

    def may_claim(self, state: State, sender: Registration) -> bool:
        """Return whether a worker may claim: only while it counts as alive."""
        return dict(state.rows).get(sender, 0) > 0

    def counts(self, job: Job, run: Run) -> bool:
        """Return whether a settlement counts: only while the job is held under the lease that the settlement names."""
        return job.state == "processing" and job.lease == run.lease

    def settle(self, state: State, run: Run) -> State:
        """Settle one run."""
        job = state.jobs[run.job]
        if not self.counts(job, run):
            return state
        after = self.state_after(run.phase, job.request)
        back = run.phase == "release" or (run.phase == "disable" and after == "pending")
        job = job._replace(state=after, holder=None, attempt=job.attempt - back, request=None, marked=False)
        return with_job(state, run.job, job)

    def state_after(self, phase: Phase, request: Request | None) -> JobState:
        """Return the state after a settlement: only a completion outweighs a request, and the last request wins."""
        if phase == "complete":
            return "completed"
        if request is not None:
            return "aborted" if request == "abort" else "disabled"
        # A run that stopped for a request to disable, which was withdrawn since, runs again as if handed back.
        return "failed" if phase == "fail" else "aborted" if phase == "abort" else "pending"

    # Requests, maintenance and time

    def request_steps(self, state: State) -> Iterator[Step]:
        """Abort, disable or enable a job. Only calls that are answered True are steps, for others change nothing."""
        luck = state.luck._replace(requests=state.luck.requests - 1)
        for number, job in enumerate(state.jobs):
            for word in ("abort", "disable", "enable"):
                if (asked := self.asked(job, word)) is not None:
                    yield f"job {number}: {word}", with_job(state, number, asked)._replace(luck=luck)

    def asked(self, job: Job, word: str) -> Job | None:
        """Return the job after a request, or None if the answer is False: nothing changed, and nothing will."""
        match word, job.state:
            case "abort", "pending" | "disabled":
                return job._replace(state="aborted", word="abort")
            case "abort", "processing":
                return job._replace(request="abort", word="abort")
            case "disable", "pending":
                return job._replace(state="disabled", word="disable")
            case "disable", "processing" if job.request != "abort":
                return job._replace(request="disable", word="disable")
            case "enable", "disabled":
                return job._replace(state="pending", most=job.most + 1, word="enable")
            case "enable", "processing" if job.request == "disable":
                return job._replace(request=None, word="enable")
        return None

    def maintenance_steps(self, state: State) -> Iterator[Step]:
        """Rescue the jobs of lost workers, ask something of a job, let time pass."""
        rescued = self.rescue(state)
        if rescued != state:
            yield RESCUE, rescued
        if state.luck.requests:
            yield from self.request_steps(state)
        if over(state) or any(self.must_act(worker) for worker in state.workers):
            return
        passed = state._replace(
            rows=tuple((key, max(left - 1, 0)) for key, left in state.rows),
            workers=tuple(worker._replace(sure=max(worker.sure - 1, 0)) for worker in state.workers),
            calls=tuple(sorted(call._replace(age=min(call.age + 1, LIFE)) for call in state.calls)),
            answers=tuple(sorted(answer._replace(age=min(answer.age + 1, LIFE)) for answer in state.answers)),
        )
        if passed != state:
            yield "time passes", passed

    def must_act(self, worker: Worker) -> bool:
        """Return whether a worker must act before time passes: send a beat, or stop its runs because it is unsure."""
        due = worker.sure < BELIEF and not worker.beating
        unsure = not worker.sure and any(run.phase in ("buffered", "running") for run in worker.runs)
        return worker.mode == "up" and (due or unsure)

    def is_lost(self, left: int) -> bool:
        """Return whether a worker is lost whose row lives for `left` more ticks."""
        return left == 0

    def rescue(self, state: State) -> State:
        """Remove lost workers, and rescue the jobs of workers that are not registered."""
        rows = tuple((key, left) for key, left in state.rows if not self.is_lost(left))
        known = dict(rows)
        jobs: list[Job] = []
        for job in state.jobs:
            if job.state == "processing" and job.holder not in known:
                ran = self.counts_as_run(job)
                spent = ran and job.attempt >= job.most
                after = self.state_after("fail" if spent else "release", job.request)
                attempt = job.attempt - (not ran)
                job = job._replace(state=after, holder=None, attempt=attempt, request=None, marked=False)
            jobs.append(job)
        return state._replace(rows=rows, jobs=tuple(jobs))

    def counts_as_run(self, job: Job) -> bool:
        """Return whether a rescue counts the attempt: its start was marked, or needed no mark."""
        return job.marked or (job.attempt == 1 and job.most > 1)


def held(state: State, number: int, worker: Worker, run: Run) -> bool:
    """Return whether the storage says that a worker holds the lease of a run."""
    job = state.jobs[run.job]
    return job.state == "processing" and job.lease == run.lease and job.holder == (number, worker.registration)


def over(state: State) -> bool:
    """Return whether all jobs have ended, or wait for somebody to enable them."""
    return all(job.state not in ("pending", "processing") for job in state.jobs)


def with_job(state: State, number: int, job: Job) -> State:
    return state._replace(jobs=(*state.jobs[:number], job, *state.jobs[number + 1 :]))


def with_worker(state: State, number: int, worker: Worker) -> State:
    return state._replace(workers=(*state.workers[:number], worker, *state.workers[number + 1 :]))


def waiting(worker: Worker, kind: Kind, waits: bool) -> Worker:
    """Return the worker, waiting for an answer or no longer waiting."""
    match kind:
        case "beat":
            return worker._replace(beating=waits)
        case "mark_started":
            return worker._replace(marking=waits)
        case _:
            return worker._replace(busy=waits)


def started(state: State, number: int, run: Run) -> State:
    """Return the state after a worker started a claimed job."""
    job = state.jobs[run.job]
    state = with_job(state, run.job, job._replace(started=job.started | 1 << run.lease))
    return with_worker(state, number, having(state.workers[number], run, "running"))


def having(worker: Worker, run: Run, phase: Phase) -> Worker:
    others = [other for other in worker.runs if other != run]
    return worker._replace(runs=tuple(sorted([*others, run._replace(phase=phase)])))


def without(worker: Worker, run: Run) -> Worker:
    return worker._replace(runs=tuple(other for other in worker.runs if other != run))


def sending(state: State, call: Call) -> State:
    return state._replace(calls=tuple(sorted((*state.calls, call))))


def answered(state: State, answer: Answer) -> State:
    return state._replace(answers=tuple(sorted((*state.answers, answer))))


def unawaited(state: State, number: int) -> State:
    """Return the state after a worker ended: its calls go on without it, its answers are dropped."""
    return state._replace(
        calls=tuple(sorted(call._replace(awaited=False) if call.sender[0] == number else call for call in state.calls)),
        answers=tuple(answer for answer in state.answers if answer.to[0] != number),
    )


def less(many: tuple, one: object) -> tuple:  # type: ignore[type-arg]
    """Return a tuple without the first item that equals `one`."""
    index = many.index(one)
    return (*many[:index], *many[index + 1 :])


def renamed(state: State) -> State:
    """Return the state with its registrations renumbered without gaps, so that states that differ only in these
    numbers are equal."""
    if all(worker.registration == 1 for worker in state.workers):
        return state
    names: dict[Registration, Registration] = {}
    for number, worker in enumerate(state.workers):
        seen = {worker.registration}
        seen.update(key[1] for key, _ in state.rows if key[0] == number)
        seen.update(job.holder[1] for job in state.jobs if job.holder is not None and job.holder[0] == number)
        seen.update(call.sender[1] for call in state.calls if call.sender[0] == number)
        seen.update(answer.to[1] for answer in state.answers if answer.to[0] == number)
        names.update(((number, old), (number, new)) for new, old in enumerate(sorted(seen), start=1))
    return state._replace(
        jobs=tuple(job if job.holder is None else job._replace(holder=names[job.holder]) for job in state.jobs),
        rows=tuple(sorted((names[key], left) for key, left in state.rows)),
        workers=tuple(
            worker._replace(registration=names[number, worker.registration][1])
            for number, worker in enumerate(state.workers)
        ),
        calls=tuple(sorted(call._replace(sender=names[call.sender]) for call in state.calls)),
        answers=tuple(sorted(answer._replace(to=names[answer.to]) for answer in state.answers)),
    )
