from __future__ import annotations

import itertools

import pytest

from jobq_core.states import (
    FINISHED,
    TRANSITIONS,
    WAITING,
    Ending,
    JobState,
    StopRequest,
    can_move,
    gives_attempt_back,
    is_finished,
    state_after,
)

S = JobState
EVERY_WAY = list(itertools.product(Ending, [None, *StopRequest], [False, True]))


def test_there_are_eight_states() -> None:
    assert len(JobState) == 8
    assert set(TRANSITIONS) == set(JobState)


def test_waiting_and_finished_states_do_not_overlap() -> None:
    assert not WAITING & FINISHED
    assert set(JobState) - WAITING - FINISHED == {S.PENDING, S.PROCESSING}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (S.SCHEDULED, S.PENDING),
        (S.BLOCKED, S.PENDING),
        (S.DISABLED, S.PENDING),
        (S.DISABLED, S.SCHEDULED),
        (S.PENDING, S.PROCESSING),
        (S.PROCESSING, S.COMPLETED),
        (S.PROCESSING, S.SCHEDULED),
        (S.FAILED, S.PENDING),
        (S.ABORTED, S.PENDING),
    ],
)
def test_the_moves_of_the_drawing_are_allowed(before: JobState, after: JobState) -> None:
    assert can_move(before, after)


def test_no_state_follows_completed() -> None:
    assert not any(can_move(S.COMPLETED, after) for after in JobState)


def test_only_a_pending_job_starts() -> None:
    assert [before for before in JobState if can_move(before, S.PROCESSING)] == [S.PENDING]


def test_only_a_running_job_completes() -> None:
    assert [before for before in JobState if can_move(before, S.COMPLETED)] == [S.PROCESSING]


def test_a_job_fails_while_it_runs_or_by_its_deadline_while_it_waits() -> None:
    failing = {S.SCHEDULED, S.BLOCKED, S.PENDING, S.PROCESSING}
    assert {before for before in JobState if can_move(before, S.FAILED)} == failing


def test_every_unfinished_state_can_be_aborted() -> None:
    assert {before for before in JobState if can_move(before, S.ABORTED)} == set(JobState) - FINISHED


@pytest.mark.parametrize("state", JobState)
def test_completed_failed_and_aborted_are_finished(state: JobState) -> None:
    assert is_finished(state) is (state in (S.COMPLETED, S.FAILED, S.ABORTED))


@pytest.mark.parametrize(("ending", "request_", "waits"), EVERY_WAY)
def test_every_settlement_is_an_allowed_move(ending: Ending, request_: StopRequest | None, waits: bool) -> None:
    assert can_move(S.PROCESSING, state_after(ending, request=request_, waits=waits))


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("ending", Ending)
@pytest.mark.parametrize("request_", StopRequest)
def test_a_job_that_was_asked_to_stop_is_never_put_back_to_run(
    ending: Ending, request_: StopRequest, waits: bool
) -> None:
    assert state_after(ending, request=request_, waits=waits) not in (S.PENDING, S.SCHEDULED, S.BLOCKED)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("ending", [ending for ending in Ending if ending is not Ending.COMPLETE])
def test_the_last_request_decides_unless_the_job_completed(ending: Ending, waits: bool) -> None:
    assert state_after(ending, request=StopRequest.ABORT, waits=waits) is S.ABORTED
    assert state_after(ending, request=StopRequest.DISABLE, waits=waits) is S.DISABLED


@pytest.mark.parametrize("request_", [None, *StopRequest])
def test_a_completion_stands(request_: StopRequest | None) -> None:
    assert state_after(Ending.COMPLETE, request=request_, waits=False) is S.COMPLETED


@pytest.mark.parametrize(
    ("ending", "now", "later"),
    [
        (Ending.FAIL, S.FAILED, S.FAILED),
        (Ending.RETRY, S.PENDING, S.SCHEDULED),
        (Ending.ABORT, S.ABORTED, S.ABORTED),
        (Ending.DISABLE, S.PENDING, S.PENDING),
        (Ending.HOLD, S.DISABLED, S.DISABLED),
        (Ending.RELEASE, S.PENDING, S.BLOCKED),
        (Ending.SNOOZE, S.PENDING, S.SCHEDULED),
        (Ending.SUSPEND, S.BLOCKED, S.BLOCKED),
    ],
)
def test_each_ending_leads_where_the_contract_says(ending: Ending, now: JobState, later: JobState) -> None:
    assert state_after(ending, request=None, waits=False) is now
    assert state_after(ending, request=None, waits=True) is later
    gated = S.BLOCKED if now is S.PENDING else now
    assert state_after(ending, request=None, waits=False, gated=True) is gated


def test_a_run_that_was_handed_back_does_not_count() -> None:
    free = {Ending.RELEASE, Ending.SNOOZE, Ending.SUSPEND}
    assert {ending for ending in Ending if gives_attempt_back(ending, request=StopRequest.DISABLE)} == free
    assert {ending for ending in Ending if gives_attempt_back(ending, request=None)} == free | {Ending.DISABLE}
