"""The history checker: good histories pass, and each bad history gets the right violation."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import msgspec
import pytest
from history import NOTICE, Abort, Add, Event, Final, History, Limit, Result, Run, check, read, recoveries
from hypothesis import given
from hypothesis import strategies as st
from journal import (
    LONGEST,
    AbortAnswered,
    Aborting,
    Answered,
    Asked,
    Disturbed,
    Ended,
    Heard,
    Journal,
    Line,
    Listening,
    Started,
    Told,
)
from life import IDLE, Post, Request
from load import Load
from load_client import answer_of
from tables import Kept
from wrong import Wrong

from jobq_client.errors import unavailable
from jobq_core.errors import ClosedError, StorageError, StorageUnavailableError
from jobq_core.states import JobState

A, B = UUID(int=1), UUID(int=2)
ADDED = Add(token="a", answer="acknowledged", asked=0, answered=1, job=A)
RUN = Run(token="a", job=A, lease=1, start=2, end=3, ending="completed", pid=7)
DONE = Final(job=A, token="a", state=JobState.COMPLETED, lease=1, result="a")
RECEIVED = Event(listener="l", job=A, state=JobState.COMPLETED, at=4)
HELD_ONLY = attrs.evolve(
    DONE, state=JobState.FAILED, result=None, attempt=1, max_attempts=1, lost=frozenset({1}), failed=frozenset()
)
FAILED = attrs.evolve(DONE, state=JobState.FAILED, result=None, failed=frozenset({1}))
ABORTED = attrs.evolve(DONE, state=JobState.ABORTED, result=None)

LOST_ONCE = [
    attrs.evolve(RUN, pid=6, end=None, ending=None),
    attrs.evolve(RUN, lease=2, attempt=2, start=9, end=10),
]
"""The first worker was killed at 5; another worker ran the job at 9."""
DONE_AGAIN = attrs.evolve(DONE, lease=2, attempt=2, lost=frozenset({1}))

COUNTED = {("default", JobState.COMPLETED): 1}
KEPT = Kept(counts=[COUNTED, COUNTED], jobs={A: None}, places=[(A, JobState.COMPLETED)])
"""The tables of a storage that holds DONE."""
KEYED = Kept(
    counts=[{("mail", JobState.PENDING): 1}],
    jobs={A: ("mail", "k")},
    places=[(A, JobState.PENDING)],
    failed={A},
    keys=[(A, ("mail", "k"))],
)
"""The tables of a storage that holds WAITS, which has a unique key."""
WAITS = attrs.evolve(DONE, state=JobState.PENDING, queue="mail", unique_key="k", result=None, failed=frozenset({1}))
WAITING = {"runs": [attrs.evolve(RUN, ending="failed")], "finals": [WAITS], "drained": False}


def aborted(state: JobState | None, at: float) -> dict[UUID, Abort]:
    """Return the aborts of a history whose job was aborted. state: the answered state; at: when it was answered."""
    return {A: Abort() if state is None else Abort(state=state, answered=at)}


def asked(*words: str, answers: tuple[bool | None, ...] = ()) -> dict[UUID, list[Request]]:
    """Return the requests of a history whose job was asked for these things, one after the other. answers: default: all
    True."""
    given = answers or (True,) * len(words)
    return {
        A: [
            Request(what=word, asked=2.1 + 0.1 * place, answered=2.15 + 0.1 * place, changed=answer)
            for place, (word, answer) in enumerate(zip(words, given, strict=True))
        ]
    }


BEHIND = [
    attrs.evolve(RUN, start=9, end=10, lease=5),
    attrs.evolve(RUN, token="b", job=B, start=5, end=6, lease=4),
]
"""The job that was added first ran last."""
TWO_ADDS = [ADDED, attrs.evolve(ADDED, token="b", job=B, asked=1.5, answered=1.6)]
BOTH = [attrs.evolve(DONE, lease=5), attrs.evolve(DONE, token="b", job=B, lease=4, result="b")]
HANDED_BACK = [attrs.evolve(RUN, ending="stopped", pid=6), *BEHIND]
"""The job that was added first was handed back at 3, and ran again after the one that was added then."""
LATER_ADD = [ADDED, attrs.evolve(ADDED, token="b", job=B, asked=3.5, answered=3.6)]
LATE_RUN = [attrs.evolve(RUN, start=2 + IDLE, end=3 + IDLE)]


def wrongs(
    *,
    adds: Any = (ADDED,),
    runs: Any = (RUN,),
    finals: Any = (DONE,),
    events: Any = (),
    results: Any = (),
    aborts: Any = None,
    requests: Any = None,
    reports: Any = None,
    posts: Any = (),
    returned: Any = None,
    promised: Any = None,
    killed: Any = None,
    paused: Any = None,
    late: Any = None,
    cut_off: Any = None,
    **options: Any,
) -> set[Wrong]:
    """Return the violations in a history. By default, one job was added, ran and completed.

    paused, late: (start, end) by process id.
    """
    ever_since = {pid: (at, float("inf")) for pid, at in (killed or {}).items()}
    history = History(
        adds=adds,
        runs=runs,
        events=events,
        results=results,
        aborts=aborts or {},
        requests=requests or {},
        reports=reports or {},
        posts=posts,
        returned=returned or {},
        promised=promised or {},
        killed=killed or {},
        interrupted={pid: [span] for pid, span in {**(paused or {}), **ever_since}.items()},
        late={pid: [span] for pid, span in (late or {}).items()},
        cut_off=cut_off or {},
    )
    return {violation.wrong for violation in check(history, finals, **options)}


GOOD = {
    "nothing": {"adds": (), "runs": (), "finals": (), "kept": Kept()},
    "tables with a completed job": {"kept": KEPT},
    "tables with a pending job that has a key": {"kept": KEYED, **WAITING},
    "a key released when its job ended": {"kept": attrs.evolve(KEPT, jobs={A: ("default", "k")})},
    "one job": {},
    "event and result received": {
        "events": [RECEIVED],
        "promised": {"l": {A}},
        "results": [Result(token="a", job=A, result="a")],
    },
    "answer unknown, job missing": {"adds": [Add(token="a")], "runs": (), "finals": ()},
    "answer unknown, job added": {"adds": [Add(token="a")]},
    "refused, job missing": {"adds": [attrs.evolve(ADDED, answer="refused", job=None)], "runs": (), "finals": ()},
    "removed": {"finals": (), "removed": {A}},
    "a key that belongs to an existing job": {
        "adds": [
            attrs.evolve(ADDED, unique_key="k"),
            attrs.evolve(ADDED, token="b", unique_key="k", created=False, asked=1.5, answered=1.6),
        ]
    },
    "a key used again after it was released": {
        "adds": [
            attrs.evolve(ADDED, unique_key="k"),
            attrs.evolve(ADDED, token="b", job=B, unique_key="k", asked=3, answered=4),
        ],
        "runs": [RUN, attrs.evolve(RUN, token="b", job=B, lease=2, start=5, end=6)],
        "finals": [DONE, attrs.evolve(DONE, token="b", job=B, lease=2, result="b")],
    },
    "a lease lost by a killed worker": {
        "runs": LOST_ONCE,
        "finals": [DONE_AGAIN],
        "killed": {6: 5},
        "undisturbed": True,
    },
    "a lease lost before its run began": {
        "runs": LOST_ONCE[1:],
        "finals": [DONE_AGAIN],
        "killed": {6: 5},
        "undisturbed": True,
    },
    "a paused worker's run that goes on": {
        "runs": [attrs.evolve(LOST_ONCE[0], end=20, ending="completed"), LOST_ONCE[1]],
        "finals": [DONE_AGAIN],
        "paused": {6: (3, 21)},
        "undisturbed": True,
    },
    "a late worker's run that goes on": {
        "runs": [attrs.evolve(LOST_ONCE[0], end=11, ending="stopped"), LOST_ONCE[1]],
        "finals": [DONE_AGAIN],
        "late": {6: (0, 20)},
        "undisturbed": True,
    },
    "a cut-off worker that stopped in time": {
        "runs": [attrs.evolve(LOST_ONCE[0], end=8, ending="stopped"), LOST_ONCE[1]],
        "finals": [DONE_AGAIN],
        "cut_off": {6: 5},
        "undisturbed": True,
    },
    "a retry": {
        "runs": [attrs.evolve(RUN, ending="failed"), LOST_ONCE[1]],
        "finals": [attrs.evolve(DONE_AGAIN, lost=frozenset(), failed=frozenset({1}))],
    },
    "handed back": {
        "runs": [attrs.evolve(RUN, ending="stopped"), attrs.evolve(LOST_ONCE[1], attempt=1)],
        "finals": [attrs.evolve(DONE, lease=2)],
    },
    "retried by a client": {
        "runs": [attrs.evolve(RUN, ending="failed"), LOST_ONCE[1]],
        "finals": [attrs.evolve(DONE, lease=2, failed=frozenset({1}))],
        "events": [attrs.evolve(RECEIVED, state=JobState.FAILED), attrs.evolve(RECEIVED, at=11)],
        "promised": {"l": {A}},
        "retried": {A},
    },
    "aborted": {"runs": (), "finals": [attrs.evolve(DONE, state=JobState.ABORTED, lease=None)], "stopped": {A}},
    "disabled": {"runs": (), "finals": [attrs.evolve(DONE, state=JobState.DISABLED, lease=None)], "stopped": {A}},
    "aborted before it ran": {
        "runs": (),
        "finals": [attrs.evolve(ABORTED, lease=None)],
        "aborts": aborted(JobState.ABORTED, 1.5),
        "events": [attrs.evolve(RECEIVED, state=JobState.ABORTED)],
        "promised": {"l": {A}},
    },
    "aborted, answer unknown": {
        "runs": (),
        "finals": [attrs.evolve(ABORTED, lease=None)],
        "aborts": aborted(None, 0),
    },
    "aborted just before it ran": {
        "runs": [attrs.evolve(RUN, ending="stopped")],
        "finals": [ABORTED],
        "aborts": aborted(JobState.PROCESSING, 1.5),
    },
    "aborted while it ran": {
        "runs": [attrs.evolve(RUN, ending="stopped")],
        "finals": [ABORTED],
        "aborts": aborted(JobState.PROCESSING, 2.5),
    },
    "aborted while it ran, and completed": {"aborts": aborted(JobState.PROCESSING, 2.5)},
    "disabled and enabled while it ran": {"requests": asked("disable", "enable")},
    "disabled while it ran, and completed": {"requests": asked("disable")},
    "disabled while it ran": {
        "runs": [attrs.evolve(RUN, ending="stopped")],
        "finals": [attrs.evolve(DONE, state=JobState.DISABLED, result=None)],
        "requests": asked("disable", "enable", "disable"),
        "stopped": {A},
    },
    "aborted while it ran, and enabled without effect": {
        "runs": [attrs.evolve(RUN, ending="stopped")],
        "finals": [ABORTED],
        "requests": asked("abort", "enable", answers=(True, False)),
        "stopped": {A},
    },
    "disabled, the answer unknown": {
        "runs": [attrs.evolve(RUN, ending="stopped")],
        "finals": [attrs.evolve(DONE, state=JobState.DISABLED, result=None)],
        "requests": asked("disable", "enable", answers=(True, None)),
        "stopped": {A},
    },
    "the last report on record": {"reports": {(A, 1): 100.0}, "finals": [attrs.evolve(DONE, percent=100.0)]},
    "a report of an earlier run": {
        "runs": LOST_ONCE,
        "finals": [attrs.evolve(DONE_AGAIN, percent=0.0)],
        "reports": {(A, 1): 50.0},
        "killed": {6: 5},
    },
    "taken in the order of the adds": {
        "adds": TWO_ADDS,
        "runs": [RUN, attrs.evolve(RUN, token="b", job=B, lease=2, start=3, end=4)],
        "finals": [DONE, attrs.evolve(DONE, token="b", job=B, lease=2, result="b")],
    },
    "taken in order, and begun at once by two workers": {
        "adds": TWO_ADDS,
        "runs": [attrs.evolve(BEHIND[0], start=5.5, end=6), BEHIND[1]],
        "finals": BOTH,
    },
    "handed back, and run before what was added since": {
        "adds": LATER_ADD,
        "runs": [
            HANDED_BACK[0],
            attrs.evolve(RUN, lease=2, start=4, end=5),
            attrs.evolve(RUN, token="b", job=B, lease=3, start=8, end=9),
        ],
        "finals": [attrs.evolve(DONE, lease=2), attrs.evolve(DONE, token="b", job=B, lease=3, result="b")],
        "returned": {6: 3.2},
    },
    "claimed by a late worker that handed it back without a run": {
        "adds": TWO_ADDS,
        "runs": BEHIND,
        "finals": BOTH,
        "late": {6: (8, 28)},
        "undisturbed": True,
    },
    "delayed, and run after a later one": {
        "adds": [attrs.evolve(ADDED, due=False), TWO_ADDS[1]],
        "runs": BEHIND,
        "finals": BOTH,
    },
    "waited beside a busy worker": {
        "runs": [
            *LATE_RUN,
            *(attrs.evolve(RUN, token="b", job=B, lease=lease, start=lease, end=lease + 1) for lease in range(2, 7)),
        ],
        "finals": [DONE, attrs.evolve(DONE, token="b", job=B, lease=6, failed=frozenset(range(2, 6)), result="b")],
        "posts": [Post(pid=7, slots=1, start=0)],
        "undisturbed": True,
    },
    "waited while no worker served": {
        "runs": LATE_RUN,
        "posts": [Post(pid=7, slots=1, start=IDLE), Post(pid=8, slots=1, start=0, end=4)],
        "undisturbed": True,
    },
    "aborted after it completed": {"aborts": aborted(JobState.COMPLETED, 4)},
    "aborted, while its abandoned run goes on": {
        "runs": [attrs.evolve(RUN, end=6, ending="stopped")],
        "finals": [ABORTED],
        "aborts": aborted(JobState.ABORTED, 4),
    },
    "aborted between two attempts": {
        "runs": [attrs.evolve(RUN, ending="failed")],
        "finals": [attrs.evolve(ABORTED, failed=frozenset({1}))],
        "aborts": aborted(JobState.ABORTED, 4),
    },
    "aborted, and its worker was killed": {
        "runs": LOST_ONCE[:1],
        "finals": [attrs.evolve(ABORTED, lost=frozenset({1}))],
        "aborts": aborted(JobState.PROCESSING, 4),
        "killed": {6: 5},
        "undisturbed": True,
    },
    "aborted while a paused worker's run goes on": {
        "runs": [attrs.evolve(LOST_ONCE[0], start=9, end=20, ending="completed")],
        "finals": [attrs.evolve(ABORTED, lost=frozenset({1}))],
        "aborts": aborted(JobState.ABORTED, 8),
        "paused": {6: (3, 30)},
        "undisturbed": True,
    },
    "asked to stop while a paused worker's run goes on": {
        "runs": [attrs.evolve(LOST_ONCE[0], end=20, ending="completed"), attrs.evolve(LOST_ONCE[1], ending="stopped")],
        "finals": [attrs.evolve(ABORTED, lease=2, attempt=2, lost=frozenset({1}))],
        "aborts": aborted(JobState.PROCESSING, 9.5),
        "paused": {6: (3, 30)},
        "undisturbed": True,
    },
    "failed because its worker was killed during the run": {
        "adds": [attrs.evolve(ADDED, ends=JobState.FAILED)],
        "runs": LOST_ONCE[:1],
        "finals": [HELD_ONLY],
        "killed": {6: 5},
        "undisturbed": True,
    },
    "failed by its deadline after its worker was killed before the run": {
        "adds": [attrs.evolve(ADDED, ends=JobState.FAILED)],
        "runs": (),
        "finals": [attrs.evolve(HELD_ONLY, late=True)],
        "killed": {6: 5},
        "undisturbed": True,
    },
    "not drained": {"finals": [attrs.evolve(DONE, state=JobState.PROCESSING, result=None)], "drained": False},
    "as many concurrent runs as allowed": {
        "runs": [RUN, attrs.evolve(RUN, token="b", job=B, lease=2, start=3, end=4)],
        "limits": [Limit(name="slots", most=1, group=lambda run: run.pid)],
    },
}

BAD: dict[str, tuple[Wrong, dict[str, Any]]] = {
    "acknowledged, job missing": (Wrong.LOST, {"runs": (), "finals": ()}),
    "ran, job missing": (Wrong.LOST, {"finals": ()}),
    "two jobs of one add": (
        Wrong.ADDED_TWICE,
        {
            "adds": [Add(token="a")],
            "runs": [RUN, attrs.evolve(RUN, job=B, lease=2)],
            "finals": [DONE, attrs.evolve(DONE, job=B, lease=2)],
        },
    ),
    "refused, job exists": (Wrong.KEPT_THOUGH_REFUSED, {"adds": [attrs.evolve(ADDED, answer="refused", job=None)]}),
    "one lease ran twice": (Wrong.LEASE_TWICE, {"runs": [RUN, attrs.evolve(RUN, start=3, end=4)]}),
    "one lease for two jobs": (
        Wrong.LEASE_TWICE,
        {"runs": [RUN, attrs.evolve(RUN, job=B, token="b")], "finals": [DONE, attrs.evolve(DONE, job=B, token="b")]},
    ),
    "two workers run it at once": (
        Wrong.DOUBLY_OWNED,
        {"runs": [attrs.evolve(LOST_ONCE[0], end=12, ending="completed"), LOST_ONCE[1]], "finals": [DONE_AGAIN]},
    ),
    "a cut-off worker runs on": (
        Wrong.DOUBLY_OWNED,
        {
            "runs": [attrs.evolve(LOST_ONCE[0], end=12, ending="stopped"), LOST_ONCE[1]],
            "finals": [DONE_AGAIN],
            "cut_off": {6: 5},
            "undisturbed": True,
        },
    ),
    "a resumed worker does not notice its lost lease": (
        Wrong.DOUBLY_OWNED,
        {
            "runs": [attrs.evolve(LOST_ONCE[0], end=20, ending="completed"), LOST_ONCE[1]],
            "finals": [DONE_AGAIN],
            "paused": {6: (3, 19)},
        },
    ),
    "a worker that reported late renewals runs on": (
        Wrong.DOUBLY_OWNED,
        {
            "runs": [attrs.evolve(LOST_ONCE[0], end=12, ending="stopped"), LOST_ONCE[1]],
            "finals": [DONE_AGAIN],
            "late": {6: (0, 11)},
        },
    ),
    "two workers run it at once long before one is late": (
        Wrong.DOUBLY_OWNED,
        {
            "runs": [attrs.evolve(LOST_ONCE[0], end=12, ending="stopped"), LOST_ONCE[1]],
            "finals": [DONE_AGAIN],
            "late": {6: (10, 30)},
        },
    ),
    "a run begins under an old lease long after the pause": (
        Wrong.DOUBLY_OWNED,
        {
            "runs": [attrs.evolve(LOST_ONCE[0], start=11, end=12, ending="stopped"), LOST_ONCE[1]],
            "finals": [DONE_AGAIN],
            "paused": {6: (3, 10)},
        },
    ),
    "a run begins under an old lease": (
        Wrong.DOUBLY_OWNED,
        {
            "runs": [attrs.evolve(LOST_ONCE[0], start=11, end=12, ending="stopped"), LOST_ONCE[1]],
            "finals": [DONE_AGAIN],
        },
    ),
    "completed under a lost lease": (Wrong.STALE_WRITE, {"finals": [attrs.evolve(DONE, lost=frozenset({1}))]}),
    "completed under an older lease": (
        Wrong.STALE_WRITE,
        {"runs": LOST_ONCE, "finals": [attrs.evolve(DONE, lost=frozenset({2}))], "killed": {6: 5}},
    ),
    "run after its end": (Wrong.AFTER_THE_END, {"runs": [RUN, LOST_ONCE[1]]}),
    "run after its end was announced": (
        Wrong.AFTER_THE_END,
        {"runs": [RUN, LOST_ONCE[1]], "finals": [DONE_AGAIN], "events": [RECEIVED]},
    ),
    "a cut-off worker begins a run after the end was announced": (
        Wrong.AFTER_THE_END,
        {
            "runs": [attrs.evolve(RUN, start=3), attrs.evolve(LOST_ONCE[1], ending="stopped")],
            "events": [attrs.evolve(RECEIVED, at=8)],
            "cut_off": {7: 2},
        },
    ),
    "an unexplained run": (
        Wrong.UNEXPLAINED,
        {"runs": LOST_ONCE, "finals": [attrs.evolve(DONE_AGAIN, lost=frozenset())], "killed": {6: 5}},
    ),
    "a lease lost without cause": (
        Wrong.LOST_WITHOUT_CAUSE,
        {"runs": [attrs.evolve(LOST_ONCE[0], end=8), LOST_ONCE[1]], "finals": [DONE_AGAIN], "undisturbed": True},
    ),
    "too many attempts": (Wrong.TOO_MANY_ATTEMPTS, {"finals": [attrs.evolve(DONE, attempt=11)]}),
    "a run with a number above the limit": (
        Wrong.TOO_MANY_ATTEMPTS,
        {"runs": [attrs.evolve(RUN, attempt=4)], "finals": [attrs.evolve(DONE, max_attempts=3)]},
    ),
    "its only attempt held by a killed worker": (
        Wrong.FAILED_UNRUN,
        {"adds": [attrs.evolve(ADDED, ends=JobState.FAILED)], "runs": (), "finals": [HELD_ONLY], "killed": {6: 5}},
    ),
    "its last attempt held by a killed worker": (
        Wrong.FAILED_UNRUN,
        {
            "adds": [attrs.evolve(ADDED, ends=JobState.FAILED)],
            "runs": LOST_ONCE[:1],
            "finals": [attrs.evolve(HELD_ONLY, lease=2, attempt=2, max_attempts=2, lost=frozenset({1, 2}))],
            "killed": {6: 5},
        },
    ),
    "a wrong result": (Wrong.WRONG_RESULT, {"finals": [attrs.evolve(DONE, result="b")]}),
    "a waiter received a wrong result": (Wrong.WRONG_RESULT, {"results": [Result(token="a", job=A, result="b")]}),
    "failed instead of completed": (
        Wrong.WRONG_END,
        {"runs": [attrs.evolve(RUN, ending="failed")], "finals": [FAILED]},
    ),
    "completed instead of failed": (Wrong.WRONG_END, {"adds": [attrs.evolve(ADDED, ends=JobState.FAILED)]}),
    "aborted without a call": (Wrong.WRONG_END, {"finals": [attrs.evolve(DONE, state=JobState.ABORTED)]}),
    "aborted, and failed unexpectedly": (
        Wrong.WRONG_END,
        {
            "runs": [attrs.evolve(RUN, ending="failed")],
            "finals": [FAILED],
            "aborts": aborted(JobState.PROCESSING, 2.5),
        },
    ),
    "aborted at once, and completed": (Wrong.WRONG_END, {"aborts": aborted(JobState.ABORTED, 5)}),
    "aborted after it completed, and aborted at the end": (
        Wrong.WRONG_END,
        {"finals": [ABORTED], "aborts": aborted(JobState.COMPLETED, 4)},
    ),
    "aborted at once, and run": (
        Wrong.THOUGH_ABORTED,
        {
            "runs": [attrs.evolve(RUN, ending="stopped")],
            "finals": [ABORTED],
            "aborts": aborted(JobState.ABORTED, 1.5),
        },
    ),
    "aborted while it ran, and run again": (
        Wrong.THOUGH_ABORTED,
        {
            "runs": [attrs.evolve(RUN, ending="failed"), LOST_ONCE[1]],
            "finals": [attrs.evolve(DONE_AGAIN, lost=frozenset(), failed=frozenset({1}))],
            "aborts": aborted(JobState.PROCESSING, 2.5),
        },
    ),
    "aborted just before it ran, handed back and run again": (
        Wrong.THOUGH_ABORTED,
        {
            "runs": [attrs.evolve(RUN, ending="stopped"), attrs.evolve(LOST_ONCE[1], attempt=1)],
            "finals": [attrs.evolve(DONE, lease=2)],
            "aborts": aborted(JobState.PROCESSING, 1.5),
        },
    ),
    "aborted, and run again after its worker was killed": (
        Wrong.THOUGH_ABORTED,
        {"runs": LOST_ONCE, "finals": [DONE_AGAIN], "aborts": aborted(JobState.PROCESSING, 4), "killed": {6: 5}},
    ),
    "aborted while it ran, and failed": (
        Wrong.LAST_WORD,
        {
            "adds": [attrs.evolve(ADDED, ends=JobState.FAILED)],
            "runs": [attrs.evolve(RUN, ending="failed")],
            "finals": [FAILED],
            "aborts": aborted(JobState.PROCESSING, 2.5),
        },
    ),
    "enabled last, and disabled": (
        Wrong.LAST_WORD,
        {
            "runs": [attrs.evolve(RUN, ending="stopped")],
            "finals": [attrs.evolve(DONE, state=JobState.DISABLED, result=None)],
            "requests": asked("disable", "enable"),
            "stopped": {A},
        },
    ),
    "aborted last, and disabled": (
        Wrong.LAST_WORD,
        {
            "runs": [attrs.evolve(RUN, ending="stopped")],
            "finals": [attrs.evolve(DONE, state=JobState.DISABLED, result=None)],
            "requests": asked("disable", "abort"),
            "stopped": {A},
        },
    ),
    "disabled last, and failed": (
        Wrong.LAST_WORD,
        {
            "adds": [attrs.evolve(ADDED, ends=JobState.FAILED)],
            "runs": [attrs.evolve(RUN, ending="failed")],
            "finals": [FAILED],
            "requests": asked("disable", "abort", answers=(True, False)),
        },
    ),
    "an earlier report on record": (
        Wrong.PROGRESS_LOST,
        {"reports": {(A, 1): 100.0}, "finals": [attrs.evolve(DONE, percent=50.0)]},
    ),
    "no report of a failed run on record": (
        Wrong.PROGRESS_LOST,
        {
            "adds": [attrs.evolve(ADDED, ends=JobState.FAILED)],
            "runs": [attrs.evolve(RUN, ending="failed")],
            "finals": [FAILED],
            "reports": {(A, 1): 30.0},
        },
    ),
    "taken long after one that was added later": (
        Wrong.OUT_OF_LINE,
        {"adds": TWO_ADDS, "runs": BEHIND, "finals": BOTH, "undisturbed": True},
    ),
    "taken long after one that was added later, and then a worker was late": (
        Wrong.OUT_OF_LINE,
        {"adds": TWO_ADDS, "runs": BEHIND, "finals": BOTH, "late": {6: (10, 30)}, "undisturbed": True},
    ),
    "handed back to the end of the line": (
        Wrong.OUT_OF_LINE,
        {"adds": LATER_ADD, "runs": HANDED_BACK, "finals": BOTH, "returned": {6: 3.2}, "undisturbed": True},
    ),
    "waited beside a worker with a free slot": (
        Wrong.IDLE_BESIDE,
        {
            "runs": LATE_RUN,
            "posts": [Post(pid=7, slots=1, start=0), Post(pid=8, slots=1, start=0, end=4)],
            "undisturbed": True,
        },
    ),
    "waited beside a worker with one of two slots free": (
        Wrong.IDLE_BESIDE,
        {
            "adds": [ADDED, attrs.evolve(ADDED, token="b", job=B)],
            "runs": [*LATE_RUN, attrs.evolve(RUN, token="b", job=B, lease=2, end=20)],
            "finals": [DONE, attrs.evolve(DONE, token="b", job=B, lease=2, result="b")],
            "posts": [Post(pid=7, slots=2, start=0)],
            "undisturbed": True,
        },
    ),
    "completed without a run": (Wrong.WRONG_END, {"runs": ()}),
    "completed though its run failed": (Wrong.WRONG_END, {"runs": [attrs.evolve(RUN, ending="failed")]}),
    "a terminal event that was not received": (Wrong.EVENT_MISSING, {"promised": {"l": {A}}}),
    "a terminal event that only another listener received": (
        Wrong.EVENT_MISSING,
        {"promised": {"l": {A}}, "events": [attrs.evolve(RECEIVED, listener="m")]},
    ),
    "a terminal event received twice": (Wrong.EVENT_TWICE, {"events": [RECEIVED, RECEIVED]}),
    "aborted, but completed by its event": (
        Wrong.EVENT_TWICE,
        {
            "runs": (),
            "finals": [attrs.evolve(ABORTED, lease=None)],
            "aborts": aborted(JobState.ABORTED, 1.5),
            "events": [RECEIVED, attrs.evolve(RECEIVED, state=JobState.ABORTED)],
        },
    ),
    "aborted, without a terminal event": (
        Wrong.EVENT_MISSING,
        {
            "runs": (),
            "finals": [attrs.evolve(ABORTED, lease=None)],
            "aborts": aborted(JobState.ABORTED, 1.5),
            "promised": {"l": {A}},
        },
    ),
    "a terminal event of another end": (Wrong.EVENT_WRONG, {"events": [attrs.evolve(RECEIVED, state=JobState.FAILED)]}),
    "more concurrent runs than allowed": (
        Wrong.LIMIT,
        {
            "adds": (),
            "finals": (),
            "runs": [RUN, attrs.evolve(RUN, token="b", job=B, lease=2, start=2.9, end=4)],
            "limits": [Limit(name="slots", most=1, group=lambda run: run.pid)],
        },
    ),
    "a killed holder counts until its death": (
        Wrong.LIMIT,
        {
            "adds": (),
            "finals": (),
            "runs": [LOST_ONCE[0], attrs.evolve(RUN, token="b", job=B, lease=2, start=4, end=6)],
            "killed": {6: 5},
            "limits": [Limit(name="cluster", most=1, group=lambda run: "all")],
        },
    ),
    "a key of two jobs": (
        Wrong.KEY_DOUBLED,
        {
            "runs": (),
            "drained": False,
            "finals": [
                attrs.evolve(DONE, job=job, state=JobState.PENDING, unique_key="k", lease=None, token=str(job))
                for job in (A, B)
            ],
        },
    ),
    "a key taken while its job still ran": (
        Wrong.KEY_DOUBLED,
        {
            "adds": [
                attrs.evolve(ADDED, unique_key="k"),
                attrs.evolve(ADDED, token="b", job=B, unique_key="k", asked=1.2, answered=1.5),
            ],
            "runs": [RUN, attrs.evolve(RUN, token="b", job=B, lease=2, start=5, end=6)],
            "finals": [DONE, attrs.evolve(DONE, token="b", job=B, lease=2, result="b")],
        },
    ),
    "a job in no state": (Wrong.MISPLACED, {"kept": attrs.evolve(KEPT, places=())}),
    "a job in two states": (
        Wrong.MISPLACED,
        {"kept": attrs.evolve(KEPT, places=[(A, JobState.PENDING), (A, JobState.COMPLETED)])},
    ),
    "a job twice in one state": (Wrong.MISPLACED, {"kept": attrs.evolve(KEPT, places=[(A, JobState.COMPLETED)] * 2)}),
    "a state of a missing job": (
        Wrong.MISPLACED,
        {"kept": attrs.evolve(KEPT, places=[(A, JobState.COMPLETED), (B, JobState.COMPLETED)])},
    ),
    "failed runs of a missing job": (Wrong.MISPLACED, {"kept": attrs.evolve(KEPT, failed={A, B})}),
    "a count that is one too high": (
        Wrong.MISCOUNTED,
        {"kept": attrs.evolve(KEPT, counts=[{**COUNTED, ("b", JobState.FAILED): 1}])},
    ),
    "a job counted twice": (Wrong.MISCOUNTED, {"kept": attrs.evolve(KEPT, counts=[dict.fromkeys(COUNTED, 2)])}),
    "a job that is not counted": (Wrong.MISCOUNTED, {"kept": attrs.evolve(KEPT, counts=[{}])}),
    "a job that is not counted by its queue": (
        Wrong.MISCOUNTED,
        {"kept": attrs.evolve(KEPT, counts=[COUNTED, {}])},
    ),
    "a key of a job that has ended": (
        Wrong.KEY_MISLAID,
        {"kept": attrs.evolve(KEPT, jobs={A: ("default", "k")}, keys=[(A, ("default", "k"))])},
    ),
    "a key of a missing job": (Wrong.KEY_MISLAID, {"kept": attrs.evolve(KEPT, keys=[(B, ("default", "k"))])}),
    "a key released too early": (Wrong.KEY_MISLAID, {"kept": attrs.evolve(KEYED, keys=()), **WAITING}),
    "a key of another queue": (
        Wrong.KEY_MISLAID,
        {"kept": attrs.evolve(KEYED, keys=[(A, ("default", "k"))]), **WAITING},
    ),
    "pending forever": (Wrong.STUCK, {"runs": (), "finals": [attrs.evolve(DONE, state=JobState.PENDING, lease=None)]}),
    "processing forever": (Wrong.STUCK, {"finals": [attrs.evolve(DONE, state=JobState.PROCESSING)]}),
    "disabled without a call": (
        Wrong.STUCK,
        {"runs": (), "finals": [attrs.evolve(DONE, state=JobState.DISABLED, lease=None)]},
    ),
}


@pytest.mark.parametrize("parts", GOOD.values(), ids=GOOD)
def test_a_good_history_passes(parts: dict[str, Any]) -> None:
    assert wrongs(**parts) == set()


@pytest.mark.parametrize(("wrong", "parts"), BAD.values(), ids=BAD)
def test_a_bad_history_gets_its_violation(wrong: Wrong, parts: dict[str, Any]) -> None:
    found = wrongs(**parts)
    # Only that violation, or one that follows from it.
    assert wrong in found
    follows = {
        Wrong.AFTER_THE_END: {Wrong.UNEXPLAINED},
        Wrong.STALE_WRITE: {Wrong.UNEXPLAINED},
        Wrong.LEASE_TWICE: {Wrong.WRONG_RESULT},
        Wrong.WRONG_END: {Wrong.LAST_WORD},
    }
    assert found - {wrong} <= follows.get(wrong, set())


def test_some_bad_history_shows_each_violation() -> None:
    assert {wrong for wrong, _ in BAD.values()} == set(Wrong)


# Histories of several jobs, as a correct queue would write them.


@st.composite
def lives(draw: Any) -> list[tuple[str, tuple[str, ...]]]:
    """Draw, for each job, how its last run ends and how the earlier runs end."""
    ends = st.lists(st.sampled_from(["failed", "killed", "paused", "stopped"]), max_size=4).map(tuple)
    last = st.sampled_from(["completed", "failed", "aborted"])
    return draw(st.lists(st.tuples(last, ends), min_size=1, max_size=6))


def play(lives: list[tuple[str, tuple[str, ...]]], dice: random.Random) -> tuple[list[Line], list[Final]]:
    """Return the journal of these lives, interleaved by `dice`, and the final jobs."""
    lines: list[Line] = []
    finals: list[Final] = []
    states = {
        number: {"ends": [*ends, last], "attempt": 1, "lost": set(), "failed": set()}
        for number, (last, ends) in enumerate(lives)
    }
    time, lease, pid = 0.0, 0, 100
    for number, (last, _) in enumerate(lives):
        ends = "failed" if last == "failed" else "completed"
        lines.append(Asked(token=str(number), at=(time := time + 1), ends=ends, due=False))
        lines.append(Answered(token=str(number), answer="acknowledged", at=(time := time + 1), job=UUID(int=number)))
        lines.append(Listening(listener="l", job=UUID(int=number), pid=1, at=time))
    while left := [number for number, state in states.items() if state["ends"]]:
        number = dice.choice(left)
        state, job = states[number], UUID(int=number)
        how, last = state["ends"].pop(0), len(state["ends"]) == 0
        lease, pid = lease + 1, pid + 1
        lines.append(
            Started(
                token=str(number),
                job=job,
                attempt=state["attempt"],
                lease=lease,
                worker=None,
                pid=pid,
                at=(time := time + 1),
            )
        )
        if how in ("killed", "paused"):
            lines.append(Disturbed(pid=pid, how=how, at=(time := time + 1)))
            state["lost"].add(lease)
        if how == "aborted":
            lines.append(Aborting(job=job, at=(time := time + 1)))
            if dice.random() < 0.5:
                lines.append(AbortAnswered(job=job, state="processing", at=(time := time + 1)))
        if how != "killed":
            ending = {"paused": "completed", "aborted": "stopped"}.get(how, how)
            lines.append(Ended(job=job, lease=lease, ending=ending, at=time + (100 if how == "paused" else 1)))
            time += 1
        if how == "failed":
            state["failed"].add(lease)
        if how != "stopped":
            state["attempt"] += 1
        if last:
            lines.append(Heard(listener="l", job=job, state=how, at=(time := time + 1)))
            if how == "completed":
                lines.append(Told(token=str(number), job=job, result=str(number), at=time))
            finals.append(
                Final(
                    job=job,
                    token=str(number),
                    state=JobState(how),
                    lease=lease,
                    attempt=state["attempt"] - 1,
                    result=str(number) if how == "completed" else None,
                    lost=frozenset(state["lost"]),
                    failed=frozenset(state["failed"]),
                )
            )
    return lines, finals


def judged(lines: list[Line], finals: list[Final]) -> set[Wrong]:
    return {violation.wrong for violation in check(read(lines), finals, undisturbed=True)}


@given(lives(), st.randoms(use_true_random=False))
def test_the_histories_of_a_correct_queue_pass(lives: list[tuple[str, tuple[str, ...]]], dice: random.Random) -> None:
    lines, finals = play(lives, dice)
    assert judged(lines, finals) == set()
    assert all(wait > 0 for wait in recoveries(read(lines)))


@given(lives(), st.randoms(use_true_random=False))
def test_a_missing_job_is_found(lives: list[tuple[str, tuple[str, ...]]], dice: random.Random) -> None:
    lines, finals = play(lives, dice)
    finals.remove(dice.choice(finals))
    assert judged(lines, finals) == {Wrong.LOST}


@given(lives(), st.randoms(use_true_random=False))
def test_an_extra_run_is_found(lives: list[tuple[str, tuple[str, ...]]], dice: random.Random) -> None:
    lines, finals = play(lives, dice)
    final = dice.choice(finals)
    after = Started(token=final.token, job=final.job, attempt=1, lease=9_999, worker=None, pid=1, at=1e6)
    assert Wrong.AFTER_THE_END in judged([*lines, after], finals)


@given(lives(), st.randoms(use_true_random=False))
def test_a_doubled_or_missing_terminal_event_is_found(
    lives: list[tuple[str, tuple[str, ...]]], dice: random.Random
) -> None:
    lines, finals = play(lives, dice)
    event = dice.choice([line for line in lines if isinstance(line, Heard)])
    assert judged([*lines, event], finals) == {Wrong.EVENT_TWICE}
    assert judged([line for line in lines if line is not event], finals) == {Wrong.EVENT_MISSING}


@given(lives(), st.randoms(use_true_random=False))
def test_a_lease_that_runs_twice_is_found(lives: list[tuple[str, tuple[str, ...]]], dice: random.Random) -> None:
    lines, finals = play(lives, dice)
    again = dice.choice([line for line in lines if isinstance(line, Started)])
    assert Wrong.LEASE_TWICE in judged([*lines, msgspec.structs.replace(again, at=1e6)], finals)


@given(lives(), st.randoms(use_true_random=False))
def test_a_run_after_an_abort_is_found(lives: list[tuple[str, tuple[str, ...]]], dice: random.Random) -> None:
    lines, finals = play(lives, dice)
    job = dice.choice(finals).job
    before = [Aborting(job=job, at=0), AbortAnswered(job=job, state="aborted", at=0)]
    rest = [line for line in lines if not isinstance(line, (Aborting, AbortAnswered))]
    assert Wrong.THOUGH_ABORTED in judged([*before, *rest], finals)


def test_the_recovery_lasts_from_the_interruption_to_the_next_run() -> None:
    history = History(runs=LOST_ONCE, killed={6: 5.0}, interrupted={6: [(5.0, float("inf"))]})
    assert recoveries(history) == [4.0]
    assert recoveries(attrs.evolve(history, interrupted={}, cut_off={6: 4.5})) == [4.5]
    assert recoveries(attrs.evolve(history, interrupted={}, late={6: [(3.5, 23.5)]})) == [5.5]


# The journal.


def test_a_journal_reads_its_lines_and_skips_an_incomplete_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    lines = play([("completed", ("killed", "failed")), ("failed", ("paused",))], random.Random(1))[0]
    for line in lines:
        journal.write(line)
    with journal.path.open("ab") as file:
        file.write(b'{"type":"Asked","tok')
    assert journal.read() == lines
    journal.close()


def test_a_line_that_is_too_long_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    with pytest.raises(ValueError, match="too long"):
        journal.write(Asked(token="x" * LONGEST, at=0))
    assert journal.read() == []
    journal.close()


AWAY = StorageUnavailableError("the server is away")


@pytest.mark.parametrize(
    ("failure", "answer"),
    [
        (unavailable(AWAY, f"job {A} was not added"), "refused"),
        (unavailable(AWAY, f"job {A} may or may not have been added"), "unknown"),
        (unavailable(AWAY, "20 jobs may or may not have been added"), "unknown"),
        (AWAY, "unknown"),
        (ClosedError("closed before it was known whether the job was added"), "unknown"),
        (StorageError("the storage is full"), "refused"),
    ],
)
def test_an_add_counts_as_refused_only_if_it_certainly_failed(failure: Any, answer: str) -> None:
    assert answer_of(failure) == answer


def test_listeners_of_killed_processes_are_promised_no_events() -> None:
    lines: list[Line] = [
        Listening(listener="dead", job=A, pid=1, at=0),
        Listening(listener="alive", job=A, pid=2, at=0),
        Disturbed(pid=1, how="killed", at=1),
    ]
    assert read(lines).promised == {"alive": {A}}


def test_a_paused_process_counts_as_interrupted_until_it_could_notice() -> None:
    lines: list[Line] = [
        Disturbed(pid=1, how="paused", at=1),
        Disturbed(pid=1, how="resumed", at=2),
        Disturbed(pid=1, how="paused", at=3),
        Disturbed(pid=1, how="resumed", at=4),
        Disturbed(pid=1, how="paused", at=50),
        Disturbed(pid=2, how="paused", at=5),
        Disturbed(pid=2, how="killed", at=6),
        Disturbed(pid=3, how="cut off", at=7),
        Disturbed(pid=3, how="cut off", at=8),
    ]
    history = read(lines)
    assert history.interrupted == {1: [(1, 4 + NOTICE), (50, float("inf"))], 2: [(5, float("inf"))]}
    assert history.killed == {2: 6}
    assert history.cut_off == {3: 7}
    assert history.disturbed == {1, 2, 3}


class Busy:
    """A worker process that reports a lost lease when it is looked at for the third time."""

    pid, alive = 6, True

    def __init__(self) -> None:
        self.looks = 0

    def said_at(self, _pattern: object) -> list[float]:
        self.looks += 1
        return [1.0, 11.0] if self.looks > 2 else [1.0]  # the report at 1 is about an earlier lease


async def test_a_verdict_waits_until_a_process_that_lost_a_lease_reports_it(tmp_path: Path) -> None:
    busy: Any = Busy()
    load = Load(None, tmp_path, "memory:", processes=[busy])
    await load.noticed(History(adds=[ADDED], runs=LOST_ONCE), [DONE_AGAIN])
    assert load.history().late == {6: [(1 - NOTICE, 1 + NOTICE), (11 - NOTICE, 11 + NOTICE)]}
