"""The offset of the storage's clock, and the ids that carry its time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from jobq_core import clock_offset
from jobq_core.clock_offset import MEASURE_SECONDS, ClockOffset
from jobq_core.storage import QueueStorage


class World:
    """This machine's two clocks, and those of a storage that is ahead of it, and whose answer takes some time."""

    def __init__(self) -> None:
        self.wall = 1000.0
        self.up = 500.0
        self.ahead = 0.0
        self.takes = 0.0
        self.calls = 0
        self.set_by = 0.0

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.up += seconds

    def time(self) -> float:
        return self.wall

    def machine_clock(self) -> float:
        return self.up

    async def now(self) -> datetime:
        self.calls += 1
        self.pass_time(self.takes / 2)
        theirs = datetime.fromtimestamp(self.wall + self.ahead, UTC)
        self.wall += self.set_by
        self.pass_time(self.takes / 2)
        return theirs


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(clock_offset, "time", world)
    monkeypatch.setattr(clock_offset, "machine_clock", world.machine_clock)
    return world


def offset_in(world: World) -> ClockOffset:
    return ClockOffset(cast("QueueStorage", cast("Any", world)))


async def test_the_storages_time_counts_for_the_middle_of_the_round_trip(world: World) -> None:
    world.ahead, world.takes = 50.0, 4.0
    measured = offset_in(world)
    await measured.measure()
    assert measured.read() == (50.0, 1004.0)


@pytest.mark.parametrize("ahead", [-1.5, 1.5])
async def test_an_offset_within_the_measurements_error_counts_as_0(world: World, ahead: float) -> None:
    world.ahead, world.takes = ahead, 4.0
    measured = offset_in(world)
    await measured.measure()
    assert measured.read() == (0.0, 1004.0)


async def test_it_is_due_at_the_start_and_some_time_after_each_measurement(world: World) -> None:
    measured = offset_in(world)
    assert measured.due_in == 0.0
    await measured.measure()
    assert measured.due_in == MEASURE_SECONDS
    world.pass_time(MEASURE_SECONDS - 1)
    assert measured.due_in == 1.0
    world.pass_time(2)
    assert measured.due_in == 0.0
    measured.postpone(5.0)
    assert measured.due_in == 5.0


async def test_a_clock_that_is_set_changes_the_offset_at_once_and_makes_a_measurement_due(world: World) -> None:
    world.ahead = 50.0
    measured = offset_in(world)
    await measured.measure()
    world.wall -= 7200.0
    assert measured.read() == (7250.0, 1000.0 - 7200.0)
    assert measured.due_in == 0.0
    await measured.measure()
    assert measured.read() == (50.0, 1000.0 - 7200.0), "the storage's clock goes with this machine's here"
    assert measured.due_in == MEASURE_SECONDS


async def test_a_clock_that_is_set_during_a_measurement_is_noticed_by_the_next_reading(world: World) -> None:
    world.takes, world.set_by = 1.0, 7200.0
    measured = offset_in(world)
    await measured.measure()
    assert measured.read() == (-7200.0, 1001.0 + 7200.0)


async def test_ids_carry_the_storages_time() -> None:
    class Ahead:
        async def now(self) -> datetime:
            return datetime.fromtimestamp(datetime.now(UTC).timestamp() + 10_800, UTC)

    measured = ClockOffset(cast("QueueStorage", cast("Any", Ahead())))
    await measured.measure()
    made = (measured.new_id().int >> 80) / 1000
    assert abs(made - datetime.now(UTC).timestamp() - 10_800) < 60
