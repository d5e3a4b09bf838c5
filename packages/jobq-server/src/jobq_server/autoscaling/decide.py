"""`decide`: how many workers a server should have, as a pure function of what it saw now and before.

The same function says how many processes a server should have, from the load of all of them (`process_scaling`).
Workers and processes help in different cases, so only one of the two numbers grows: while a process keeps its
processor busy, more workers in it do not help, and it counts as a busy process; one that waits, as for a network, gets
more workers, and counts as busy when it has as many as it may have.

More workers help only while those that are there are busy and jobs wait. So it scales up by the expected wait: jobs
that wait ÷ jobs that end in a second or, where nothing has ended yet, the age of the oldest. It scales down by the
largest number of workers that were busy during the cool-down. Between the two it changes nothing, which keeps it from
flapping.

Whether more workers help at all is measured. The *reference* is what fewer workers achieved; if the present ones, all
busy, clearly do not end more jobs, the server goes back to the reference, and tries again later. Where that stays open
at the maximum, the reference is the maximum, and half the workers are compared with it, then a quarter, and so on.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

import attrs

from jobq_server.autoscaling.options import Autoscaler

BUSY: Final = 0.75
"""The share of busy workers from which on they count as all busy: a worker is idle between two jobs for the time of a
claim."""
SETTLE_SECONDS: Final = 5.0
"""Time between two additions of workers while it is open how long jobs will wait, or whether more workers help."""
ENOUGH: Final = 5
"""The number of ended jobs from which on their rate counts."""
STEPS: Final = 1.5
"""How many times more workers than those of the reference are compared with it."""
SURE: Final = 3.0
"""Standard deviations between what few ended jobs show and what says that workers do not help."""
LIKELY: Final = 2.0
"""The same for what says that fewer workers do as well as those at the maximum, or do not."""
SOLID: Final = 200
"""The number of ended jobs after which workers at the maximum are compared with half of them."""
ENOUGH_TO_COMPARE: Final = 1000
"""The number after which the comparison is decided, however close it is."""
WORTH: Final = 1.2
"""How many times as many jobs twice the workers must end to be worth it."""
HOLD_SECONDS: Final = 60.0
"""Time until the next try after workers did not help; each further try doubles it."""
MAX_HOLD_SECONDS: Final = 960.0

NOT_WAITING: Final = "no job waits for a worker"


class Cause(StrEnum):
    """Why the number of workers is what it is."""

    STEADY = "steady"
    """Jobs do not wait long, and the workers have been needed."""
    WAITING = "waiting"
    """Workers were added: jobs wait too long."""
    AT_MAX = "at max"
    """Jobs wait too long, and there are as many workers as there may be."""
    MEASURING = "measuring"
    """Jobs wait too long, and it is not known yet what the present workers achieve, or fewer did."""
    NO_GAIN = "no gain"
    """Workers were removed: they did not make more jobs end."""
    HELD = "held"
    """Jobs wait too long, and more workers did not help a short time ago."""
    PROCESSOR = "processor"
    """Jobs wait too long, and the process keeps its processor busy: more processes help, and more workers do not."""
    IDLE = "idle"
    """Workers were removed: fewer were enough."""


@attrs.frozen(kw_only=True)
class Load:
    """What a server sees at one look.

    at: seconds of a monotonic clock. busy: workers that run a job, with those that were removed meanwhile.
    ended: jobs that have ended here so far. waiting: this server's share of the jobs that could run now. oldest: how
    many seconds the first of them has waited. processor: the share of one processor that the process uses or
    waits for; 0 where the number of processes is not scaled.
    """

    at: float
    busy: float
    ended: int = 0
    waiting: int = 0
    oldest: float = 0.0
    processor: float = 0.0


@attrs.frozen(kw_only=True)
class Level:
    """What a number of workers achieved while all were busy: so many jobs ended in so many seconds."""

    workers: int
    ended: int
    seconds: float

    @property
    def rate(self) -> float:
        """Jobs that ended in a second."""
        return self.ended / self.seconds if self.seconds > 0 else 0.0

    @property
    def is_measured(self) -> bool:
        """Whether enough jobs ended for the rate to count."""
        return self.ended >= ENOUGH and self.seconds > 0

    def helps(self, reference: Level) -> bool | None:
        """Return whether these workers end more jobs than the fewer ones of the reference; None while that is open.

        They help if they bring at least half of what as many independent workers would, on a logarithmic scale. The
        number of jobs that end in a time varies as its square root.
        """
        run_seconds = reference.workers / reference.rate
        ended = self.ended + 0.5
        wanted = math.log(self.workers / reference.workers) / 2
        found = math.log(ended / self.seconds / reference.rate) if self.seconds > 0 else 0.0
        deviation = math.sqrt(1 / ended + 1 / reference.ended)
        if self.seconds < 2 * run_seconds:
            return None  # the first jobs of added workers end after the length of a run
        if found - deviation > wanted:
            return True
        return False if found + SURE * deviation < wanted else None

    def is_clearly_apart(self, more: Level) -> bool:
        """Return whether the counts tell on which side of WORTH these workers are, compared with more of them."""
        deviation = math.sqrt(1 / self.ended + 1 / more.ended)
        return abs(math.log(more.rate / self.rate / WORTH)) > LIKELY * deviation

    def joined(self, more: Level) -> Level:
        """Return these workers with the counts of more of them too, which did no better."""
        return Level(workers=self.workers, ended=self.ended + more.ended, seconds=self.seconds + more.seconds)


@attrs.frozen(kw_only=True)
class State:
    """What is remembered between two looks.

    changed_at: when the number of workers changed last. oldest, waiting: of the last look. full_since, full_ended:
        since when all workers are busy (None: they are not), and none that was removed, and how many had ended then.
    busiest: the busy workers of the cool-down, as the falling maxima from each look to the last one.
    held_until, hold: until when no workers are added since they did not help, and how long the next such time is.
    noun: what is counted, 'workers' or 'processes'.
    """

    workers: int
    changed_at: float
    full_since: float | None = None
    full_ended: int = 0
    reference: Level | None = None
    oldest: float = 0.0
    waiting: int = 0
    busiest: tuple[tuple[float, float], ...] = ()
    held_until: float = float("-inf")
    hold: float = HOLD_SECONDS
    noun: str = "workers"

    def is_full(self, load: Load) -> bool:
        """Return whether all workers are busy, but for those between two jobs."""
        return load.busy >= BUSY * self.workers

    def level(self, load: Load) -> Level:
        """Return what the workers achieved since all are busy."""
        since = load.at if self.full_since is None else self.full_since
        return Level(workers=self.workers, ended=load.ended - self.full_ended, seconds=load.at - since)


@attrs.frozen(kw_only=True)
class Decision:
    """How many workers to have from now on, and why. reason: the cause in one sentence, with figures."""

    cause: Cause
    reason: str
    state: State

    @property
    def workers(self) -> int:
        """The number of workers."""
        return self.state.workers


def decide(options: Autoscaler, before: State, load: Load) -> Decision:
    """Return the number of workers for this load, and what to remember for the next look."""
    state = _observe(options, before, load)
    if state.full_since is None or not load.waiting:
        return _scale_down(options, state, load)
    stuck = load.oldest > before.oldest and load.waiting >= before.waiting
    return _scale_up(options, state, load, stuck=stuck)


def _observe(options: Autoscaler, state: State, load: Load) -> State:
    recent = tuple(seen for seen in state.busiest if seen[0] > load.at - options.cool_down and seen[1] > load.busy)
    state = attrs.evolve(state, busiest=(*recent, (load.at, load.busy)), oldest=load.oldest, waiting=load.waiting)
    if not state.is_full(load):
        return attrs.evolve(state, full_since=None, reference=None, held_until=float("-inf"), hold=HOLD_SECONDS)
    if state.full_since is None or load.busy > state.workers:
        return attrs.evolve(state, full_since=load.at, full_ended=load.ended)
    return state


def _scale_up(options: Autoscaler, state: State, load: Load, *, stuck: bool) -> Decision:
    level, target = state.level(load), options.target_wait
    expected = load.waiting / level.rate if level.is_measured else None
    late = load.oldest > target and (expected is None or stuck)
    wait = expected if expected is not None and expected > target else load.oldest if late else 0.0
    said = _describe(load, expected, target)
    if wait <= target:
        return Decision(cause=Cause.STEADY, reason=said, state=state)
    reference, helps = state.reference, None
    is_open = not level.is_measured
    if reference is not None and reference.workers > level.workers:
        return _compare_fewer(options, state, load, level, reference)
    if reference is not None and level.workers >= STEPS * reference.workers:
        helps = level.helps(reference)
        is_open = helps is None
        if helps is False:
            return _go_back(state, load, level, reference)
    if options.max_processes is not None and load.processor >= BUSY:
        said = f"{said}; the process needs {load.processor:.0%} of a processor: more processes help, not more workers"
        return Decision(cause=Cause.PROCESSOR, reason=said, state=state)
    if state.workers >= options.max:
        if helps is None and level.ended >= SOLID and load.at >= state.held_until and options.max > options.min:
            return _try_fewer(options, state, load, level)
        return Decision(cause=Cause.AT_MAX, reason=f"{said}; {options.max} is the maximum", state=state)
    if load.at < state.held_until:
        left = state.held_until - load.at
        return Decision(cause=Cause.HELD, reason=f"{said}; more did not help, next try in {left:.0f} s", state=state)
    if is_open and load.at - state.changed_at < SETTLE_SECONDS:
        return Decision(cause=Cause.MEASURING, reason=said, state=state)
    factor = wait / target if expected is not None and expected > target else 1.0 if expected is not None else 2.0
    wanted = max(state.workers + 1, min(math.ceil(state.workers * factor), 2 * state.workers))
    if (reference is None or helps) and level.is_measured:
        reference = level
    workers = options.clamp(min(wanted, state.workers + load.waiting))
    state = _change(state, load, workers, reference)
    return Decision(cause=Cause.WAITING, reason=said, state=attrs.evolve(state, full_since=load.at))


def _go_back(state: State, load: Load, level: Level, reference: Level) -> Decision:
    said = (
        f"{_rate(state, level)}, {reference.workers} ended {reference.rate:.3g}: "
        f"more do not help; next try in {state.hold:.0f} s"
    )
    return Decision(cause=Cause.NO_GAIN, reason=said, state=_hold(_change(state, load, reference.workers, None), load))


def _try_fewer(options: Autoscaler, state: State, load: Load, level: Level) -> Decision:
    workers = max(state.workers // 2, options.min)
    said = f"{_rate(state, level)}; whether {workers} do as well is measured"
    return Decision(cause=Cause.MEASURING, reason=said, state=_change(state, load, workers, level))


def _compare_fewer(options: Autoscaler, state: State, load: Load, level: Level, more: Level) -> Decision:
    """Try still fewer workers if the present ones do as well as `more` did, else go back to those."""
    said = f"{_rate(state, level)}, {more.workers} ended {more.rate:.3g}"
    if level.ended < SOLID or (level.ended < ENOUGH_TO_COMPARE and not level.is_clearly_apart(more)):
        return Decision(cause=Cause.MEASURING, reason=said, state=state)
    if more.rate >= WORTH * level.rate:
        return Decision(cause=Cause.WAITING, reason=said, state=_hold(_change(state, load, more.workers, None), load))
    if level.workers > options.min:
        return _try_fewer(options, state, load, level.joined(more))
    said = f"{said}: more do not help; next try in {state.hold:.0f} s"
    return Decision(cause=Cause.NO_GAIN, reason=said, state=_hold(attrs.evolve(state, reference=None), load))


def _hold(state: State, load: Load) -> State:
    """Add no workers for some time, and for twice that the next time."""
    return attrs.evolve(state, held_until=load.at + state.hold, hold=min(2 * state.hold, MAX_HOLD_SECONDS))


def _scale_down(options: Autoscaler, state: State, load: Load) -> Decision:
    busiest = state.busiest[0][1]
    said = f"at most {busiest:.3g} of {state.workers} {state.noun} were busy in {options.cool_down:g} s"
    needed = max(math.ceil(busiest / BUSY), math.ceil(state.workers / 2), options.min)
    if needed >= state.workers or load.at - state.changed_at < options.cool_down:
        return Decision(cause=Cause.STEADY, reason=NOT_WAITING, state=state)
    return Decision(cause=Cause.IDLE, reason=said, state=_change(state, load, needed, None))


def _change(state: State, load: Load, workers: int, reference: Level | None) -> State:
    return attrs.evolve(
        state,
        workers=workers,
        changed_at=load.at,
        full_since=None,
        full_ended=load.ended,
        reference=reference,
    )


def _rate(state: State, level: Level) -> str:
    return f"{level.workers} {state.noun} end {level.rate:.3g} jobs a second"


def _describe(load: Load, expected: float | None, target: float) -> str:
    jobs = "1 job waits" if load.waiting == 1 else f"{load.waiting} jobs wait"
    rest = "" if expected is None else f"; at the present rate the last one starts in {expected:.3g} s"
    return f"{jobs}, the oldest for {load.oldest:.3g} s{rest} (target {target:g} s)"
