"""What a supervisor decides, with children that are made up and a clock that the test moves."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable

import pytest

from jobq_worker.liveness.loop_watch import TICK_SECONDS
from jobq_worker.processes.exits import ExitCode
from jobq_worker.processes.supervised import BEAT, DONE, ENDED, LOAD, READY, describe_exit
from jobq_worker.processes.supervisor import (
    END_SECONDS,
    HEALTHY_SECONDS,
    KILL_SECONDS,
    MAX_BACKOFF_SECONDS,
    SECOND_SIGNAL_SECONDS,
    STUCK_KILL_SECONDS,
    Supervisor,
)

TERM, KILL = signal.SIGTERM, signal.SIGKILL


class FakeProcess:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.sent: list[str] = []
        self.code: int | None = None
        self.signals: list[int] = []

    def read(self) -> list[str]:
        sent, self.sent = self.sent, []
        return sent

    def poll(self) -> int | None:
        return self.code

    def send_signal(self, number: int) -> None:
        self.signals.append(number)


class Stage:
    """A supervisor, its clock, and all children that it has started, by number, the last one last."""

    def __init__(self, count: int = 2, *, reloads: bool = False, stop_timeout: float = 30.0) -> None:
        self.now = 1000.0
        self.lost_after, self.stop_timeout = 10.0, stop_timeout
        self.started: dict[int, list[FakeProcess]] = {}
        self.is_full = False
        self.supervisor = Supervisor(
            self.start, count, lost_after=10.0, stop_timeout=stop_timeout, reloads=reloads, clock=lambda: self.now
        )
        self.supervisor.step()

    def start(self, number: int) -> FakeProcess:
        if self.is_full:
            raise BlockingIOError("no process can be added")
        process = FakeProcess(number * 100 + len(self.started.get(number, ())))
        self.started.setdefault(number, []).append(process)
        return process

    def __getitem__(self, number: int) -> FakeProcess:
        return self.started[number][-1]

    def serve(self) -> Stage:
        """Let all children say that they are ready."""
        self[1].sent = [f"{READY} {self.lost_after} {self.stop_timeout}"]
        self.supervisor.step()
        for children in self.started.values():
            children[-1].sent = [f"{READY} {self.lost_after} {self.stop_timeout}"]
        self.supervisor.step()
        return self

    def wait(self, seconds: float, each: Callable[[], object] = lambda: None) -> None:
        """Let time pass in small steps."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + TICK_SECONDS, end)
            each()
            self.supervisor.step()

    def starts(self, number: int) -> int:
        return len(self.started.get(number, ()))


def test_the_first_child_starts_alone_and_the_others_when_it_serves() -> None:
    stage = Stage(3)
    stage.wait(60)
    assert list(stage.started) == [1]
    stage.serve()
    assert sorted(stage.started) == [1, 2, 3]


@pytest.mark.parametrize(("code", "exits"), [(1, 1), (2, 2), (-9, 1)])
def test_an_error_at_the_start_ends_the_supervisor(code: int, exits: int) -> None:
    stage = Stage(3)
    stage[1].code = code
    stage.supervisor.step()
    assert stage.supervisor.finished
    assert stage.supervisor.exit_code == exits
    assert list(stage.started) == [1]


def test_a_crashed_child_is_restarted_with_a_backoff_that_doubles(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage().serve()
    for number, seconds in enumerate([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, MAX_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS]):
        stage[2].code = -signal.SIGSEGV
        stage.supervisor.step()
        stage.wait(seconds - 0.1)
        assert stage.starts(2) == number + 1
        stage.wait(0.1)
        assert stage.starts(2) == number + 2
    assert stage.starts(1) == 1
    assert "process 2 (pid 200) ended with SIGSEGV; it is restarted in 0.5 s" in caplog.text


def test_a_child_that_ran_well_for_a_while_begins_again_with_the_first_backoff() -> None:
    stage = Stage().serve()
    for _ in range(2):
        stage[1].code = 1
        stage.supervisor.step()
        stage.wait(1.0)
    stage.wait(HEALTHY_SECONDS)
    stage[1].code = 1
    stage.supervisor.step()
    stage.wait(0.5)
    assert stage.starts(1) == 4


def test_a_child_that_ends_in_order_is_replaced_at_once() -> None:
    stage = Stage().serve()
    stage[1].sent, stage[1].code = [ENDED], 0
    stage.supervisor.step()
    assert stage.starts(1) == 2


def test_children_that_are_done_are_not_replaced() -> None:
    stage = Stage().serve()
    for number in (1, 2):
        stage[number].sent, stage[number].code = [DONE], 0
        assert not stage.supervisor.finished
        stage.supervisor.step()
    assert stage.supervisor.finished
    assert stage.supervisor.exit_code == 0
    assert (stage.starts(1), stage.starts(2)) == (1, 1)


def test_a_child_that_says_nothing_is_stopped_by_force() -> None:
    stage = Stage().serve()
    stage.wait(9.9, lambda: setattr(stage[2], "sent", [BEAT]))
    assert stage[1].signals == []
    stage.wait(TICK_SECONDS)
    assert stage[1].signals == [TERM]
    stage.wait(SECOND_SIGNAL_SECONDS)
    assert stage[1].signals == [TERM, TERM]
    stage.wait(STUCK_KILL_SECONDS)
    assert stage[1].signals == [TERM, TERM, KILL]
    stage[1].code = -KILL
    stage.supervisor.step()
    stage.wait(0.5)
    assert (stage.starts(1), stage.starts(2)) == (2, 1)


def test_a_child_says_how_long_its_worker_waits() -> None:
    stage = Stage(1)
    stage.lost_after, stage.stop_timeout = 100.0, 600.0
    stage.serve()
    stage.wait(99)
    stage.supervisor.stop("SIGTERM")
    stage.wait(600 + KILL_SECONDS - 1)
    assert stage[1].signals == [TERM]


def test_a_child_that_has_not_started_yet_is_not_stuck() -> None:
    stage = Stage()
    stage.wait(100)
    assert stage[1].signals == []


def test_a_pause_of_the_supervisor_itself_makes_no_child_stuck() -> None:
    stage = Stage().serve()
    stage.now += 3600
    stage.supervisor.step()
    assert stage[1].signals == []


def test_a_child_whose_process_does_not_end_after_its_worker_is_killed() -> None:
    stage = Stage().serve()
    stage[1].sent = [ENDED]
    stage.wait(END_SECONDS + TICK_SECONDS)
    assert stage[1].signals == [KILL]


def test_a_stop_is_passed_on_and_waits_for_the_children() -> None:
    stage = Stage().serve()
    stage.supervisor.stop("SIGTERM")
    stage.supervisor.step()
    assert stage[1].signals == stage[2].signals == [TERM]
    assert not stage.supervisor.finished
    stage[1].code = 0
    stage.wait(25)
    assert stage.starts(1) == 1
    stage[2].code = 0
    stage.supervisor.step()
    assert stage.supervisor.finished
    assert stage.supervisor.exit_code == 0


def test_a_second_stop_is_passed_on_too_and_what_goes_on_is_killed() -> None:
    stage = Stage(1).serve()
    stage.supervisor.stop("SIGTERM")
    stage.wait(5)
    stage.supervisor.stop("SIGINT")
    stage.wait(KILL_SECONDS - 1)
    assert stage[1].signals == [TERM, TERM]
    stage.wait(2)
    assert stage[1].signals == [TERM, TERM, KILL]
    stage[1].code = -KILL
    stage.supervisor.step()
    assert stage.supervisor.exit_code == ExitCode.BLOCKED


def test_a_stop_leaves_the_children_their_time() -> None:
    stage = Stage(1, stop_timeout=600).serve()
    stage.supervisor.stop("SIGTERM")
    stage.wait(600 + KILL_SECONDS - 1)
    assert stage[1].signals == [TERM]


def test_the_highest_exit_code_counts() -> None:
    stage = Stage(3).serve()
    stage.supervisor.stop("SIGTERM")
    for number, code in ((1, 0), (2, ExitCode.RUNS_LEFT), (3, 0)):
        stage[number].code = code
    stage.supervisor.step()
    assert stage.supervisor.exit_code == ExitCode.RUNS_LEFT


def test_a_child_that_is_stopped_during_its_start_counts_as_stopped() -> None:
    stage = Stage(1)
    stage.supervisor.stop("SIGTERM")
    stage.supervisor.step()
    stage[1].code = -TERM
    stage.supervisor.step()
    assert stage.supervisor.finished
    assert stage.supervisor.exit_code == 0


def test_a_stop_during_a_backoff_starts_nothing() -> None:
    stage = Stage(1).serve()
    stage[1].code = 1
    stage.supervisor.step()
    stage.supervisor.stop("SIGTERM")
    assert stage.supervisor.finished


def test_a_reload_stops_the_children_soon_and_starts_them_again() -> None:
    stage = Stage(reloads=True).serve()
    stage.supervisor.reload()
    stage.wait(SECOND_SIGNAL_SECONDS)
    assert stage[1].signals == [TERM, TERM]
    stage[1].code = stage[2].code = 0
    stage.supervisor.step()
    assert (stage.starts(1), stage.starts(2)) == (2, 2)


def test_with_reload_a_child_that_fails_waits_for_the_next_change(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(1, reloads=True)
    stage[1].code = 1
    stage.supervisor.step()
    stage.wait(600)
    assert stage.starts(1) == 1
    assert "it is restarted when the source changes" in caplog.text
    stage.supervisor.reload()
    stage.supervisor.step()
    assert stage.starts(1) == 2


def test_an_added_child_gets_the_lowest_free_number_and_does_not_make_the_others_unhealthy() -> None:
    stage = Stage(3).serve()
    stage.supervisor.retire(2)
    stage[2].code = 0
    stage.supervisor.step()
    stage.supervisor.add(2)
    assert [child.number for child in stage.supervisor.children] == [1, 2, 3, 4]
    stage.supervisor.step()
    assert [stage.starts(number) for number in (1, 2, 3, 4)] == [1, 2, 1, 1]
    assert stage.supervisor.serves
    stage.serve()
    stage[4].code = 1
    stage.supervisor.step()
    assert not stage.supervisor.serves, "it has served, and does not now"


def test_a_process_that_the_system_does_not_start_is_tried_again_while_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage().serve()
    stage.is_full = True
    stage.supervisor.add(1)
    stage[2].code = 1
    stage.wait(10, lambda: setattr(stage[1], "sent", [BEAT]))
    assert "process 3 cannot be started: no process can be added; tried again in 0.5 s" in caplog.text
    assert "process 2 cannot be started: no process can be added; tried again in 1 s" in caplog.text
    assert stage[1].signals == []
    stage.is_full = False
    stage.wait(10, lambda: setattr(stage[1], "sent", [BEAT]))
    assert [stage.starts(number) for number in (1, 2, 3)] == [1, 2, 1]


def test_the_first_process_that_the_system_does_not_start_is_an_error_of_the_start() -> None:
    with pytest.raises(BlockingIOError):
        FullStage()


class FullStage(Stage):
    def start(self, number: int) -> FakeProcess:
        raise BlockingIOError("no process can be added")


def test_a_retired_child_is_stopped_in_order_and_killed_when_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(stop_timeout=600).serve()
    stage.supervisor.retire(2)
    assert [child.number for child in stage.supervisor.children] == [1]
    stage.wait(600 + KILL_SECONDS - 1, lambda: setattr(stage[1], "sent", [BEAT]))
    assert (stage[1].signals, stage[2].signals) == ([], [TERM])
    stage.wait(2)
    assert stage[2].signals == [TERM, KILL]
    stage[2].code = -KILL
    stage.supervisor.step()
    assert "process 2 (pid 200) ended with SIGKILL; it is needed no more" in caplog.text
    assert [process.pid for process in stage.supervisor.processes()] == [100]


@pytest.mark.parametrize("crashed_before", [True, False])
def test_a_child_that_crashes_while_it_is_retired_or_before_is_not_restarted(crashed_before: bool) -> None:
    stage = Stage(3).serve()
    if crashed_before:
        stage[2].code = 1
        stage.supervisor.step()
    stage.supervisor.retire(2)
    stage[2].code = 1
    stage.wait(2 * MAX_BACKOFF_SECONDS, lambda: [setattr(stage[number], "sent", [BEAT]) for number in (1, 3)])
    assert [stage.starts(number) for number in (1, 2, 3)] == [1, 1, 1]
    assert stage.supervisor.serves


def test_a_number_is_used_again_only_when_its_retired_child_has_ended() -> None:
    stage = Stage().serve()
    stage.supervisor.retire(2)
    stage.supervisor.add(1)
    stage.supervisor.step()
    assert [child.number for child in stage.supervisor.children] == [1, 3]


def test_a_stop_waits_for_a_retired_child_and_does_not_hurry_it() -> None:
    stage = Stage().serve()
    stage.supervisor.retire(2)
    stage.supervisor.step()
    stage.supervisor.stop("SIGTERM")
    stage.supervisor.step()
    assert (stage[1].signals, stage[2].signals) == ([TERM], [TERM])
    stage[1].code = 0
    stage.supervisor.step()
    assert not stage.supervisor.finished
    stage.supervisor.stop("SIGTERM")
    stage.supervisor.step()
    assert stage[2].signals == [TERM, TERM]
    stage[2].code = 0
    stage.supervisor.step()
    assert stage.supervisor.finished


def test_a_reload_does_not_start_a_retired_child_again() -> None:
    stage = Stage(reloads=True).serve()
    stage.supervisor.retire(2)
    stage.supervisor.reload()
    stage[1].code = stage[2].code = 0
    stage.supervisor.step()
    assert (stage.starts(1), stage.starts(2)) == (2, 1)


def test_it_knows_the_load_that_each_process_reported_last() -> None:
    stage = Stage(3).serve()
    stage[1].sent = [f'{LOAD} {{"busy": 1}}', f'{LOAD} {{"busy": 2}}']
    stage[2].sent = [f'{LOAD} {{"busy": 3}}']
    stage.supervisor.step()
    assert stage.supervisor.loads() == {100: {"busy": 2}, 200: {"busy": 3}}
    stage.supervisor.retire(1)
    stage[2].code = 1
    stage.supervisor.step()
    stage.wait(1)
    assert stage.supervisor.loads() == {}, "the restarted one has not reported yet"


def test_a_step_says_when_the_next_is_due() -> None:
    stage = Stage(1).serve()
    assert stage.supervisor.step() == TICK_SECONDS
    stage[1].code = 1
    stage.supervisor.step()
    stage.now += 0.4
    assert stage.supervisor.step() == pytest.approx(0.1)


def test_the_log_says_that_a_child_is_stuck(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(1).serve()
    with caplog.at_level(logging.INFO):
        stage.wait(10.5)
    assert "process 1 (pid 100) is stuck: its event loop has been blocked for 10.0 s" in caplog.text


def test_exits_in_words() -> None:
    assert [describe_exit(code) for code in (0, 3, -9, -250)] == ["code 0", "code 3", "SIGKILL", "signal 250"]
