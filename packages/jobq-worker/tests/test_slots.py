from __future__ import annotations

from jobq_core.ids import new_id
from jobq_core.states import Ending
from jobq_core.storage import ClaimedJob
from jobq_worker.running.run import Run
from jobq_worker.running.slots import SharedSlot, Slots


def run_in(slots: Slots) -> Run:
    run = Run(ClaimedJob(new_id(), 1, "default", "x", b"{}", 1, 10), 0.0)
    run.slot = slots.free.pop()
    run.slot.job = run.job
    run.seconds = 2.0
    return run


def end(slots: Slots, run: Run, ending: Ending = Ending.COMPLETE) -> None:
    assert run.slot is not None
    slots.give_back(run.slot)
    slots.count(run.slot, ending, run.seconds)


def test_slots_are_numbered_from_one_and_the_lowest_is_used_first() -> None:
    slots = Slots(3)
    assert [slot.number for slot in slots.each()] == [1, 2, 3]
    run = run_in(slots)
    assert run.slot is not None
    assert run.slot.number == 1


def test_each_ending_is_counted_where_it_happened() -> None:
    slots = Slots(2)
    for ending in (
        Ending.COMPLETE,
        Ending.FAIL,
        Ending.RETRY,
        Ending.ABORT,
        Ending.DISABLE,
        Ending.RELEASE,
    ):
        end(slots, run_in(slots), ending)
    stats = slots.stats()
    counts = (stats.completed, stats.failed, stats.retried, stats.aborted, stats.disabled, stats.released)
    assert counts == (1, 1, 1, 1, 1, 1)
    assert stats.busy_seconds == 12.0
    assert stats.running == 0


def test_the_highest_numbers_go_first_and_a_busy_one_when_its_run_has_ended() -> None:
    slots = Slots(3)
    runs = [run_in(slots) for _ in range(3)]
    slots.resize(1)
    assert (len(slots), slots.used, slots.free) == (1, 3, [])
    end(slots, runs[2])
    end(slots, runs[1])
    assert (slots.used, slots.free) == (1, [])
    end(slots, runs[0])
    assert [slot.number for slot in slots.free] == [1]


def test_what_a_slot_counted_is_not_lost_with_it() -> None:
    slots = Slots(2)
    first, second = run_in(slots), run_in(slots)
    end(slots, first)
    slots.resize(0)
    assert slots.stats().completed == 1
    end(slots, second)
    assert slots.stats().completed == 2
    assert slots.stats().busy_seconds == 4.0
    slots.resize(2)
    assert slots.stats().completed == 2


def test_a_settlement_that_comes_after_its_slot_has_gone_counts_once() -> None:
    slots = Slots(1)
    run = run_in(slots)
    assert run.slot is not None
    slots.give_back(run.slot)
    slots.resize(0)
    slots.count(run.slot, Ending.COMPLETE, run.seconds)
    assert slots.stats().completed == 1


def test_a_slot_that_comes_back_while_its_run_goes_on_is_the_same() -> None:
    slots = Slots(2)
    runs = [run_in(slots), run_in(slots)]
    slots.resize(0)
    slots.resize(2)
    assert slots.free == []
    assert {slot.job_id for slot in slots.each()} == {run.job.id for run in runs}
    for run in runs:
        end(slots, run)
    assert len(slots.free) == 2
    assert slots.stats().completed == 2


def test_a_shared_slot_is_given_back_by_its_last_run_and_counts_for_its_place() -> None:
    slots = Slots(1)
    shared = SharedSlot(slots.free.pop())
    shared.members = 2
    slots.give_back(shared)
    assert (slots.free, slots.used) == ([], 1)
    slots.give_back(shared)
    assert (slots.free, slots.used) == ([shared.real], 0)
    slots.count(shared, Ending.COMPLETE, 2.0)
    assert slots.each()[0].stats.completed == 1
    assert slots.stats().busy_seconds == 2.0


def test_a_shared_slot_hangs_once_when_all_its_runs_do() -> None:
    slots = Slots(1)
    shared = SharedSlot(slots.free.pop())
    shared.members = 2
    slots.hang(shared)
    assert (slots.hung, len(slots.free)) == (0, 0)
    slots.hang(shared)
    assert (slots.hung, len(slots.free)) == (1, 1)
    slots.give_back(shared)
    slots.give_back(shared)
    assert (slots.hung, len(slots.free), slots.used) == (0, 1, 0)
