"""The machine's clock."""

from __future__ import annotations

import time

import pytest

from jobq_core import machine_clock


def test_it_goes_on_while_the_machine_sleeps_where_a_clock_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_clock, "_CLOCK", 7)
    monkeypatch.setattr(time, "clock_gettime", {7: 3600.0}.__getitem__, raising=False)
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    assert machine_clock.machine_clock() == 3600.0
    monkeypatch.setattr(machine_clock, "_CLOCK", None)
    assert machine_clock.machine_clock() == 5.0


def test_it_advances_like_the_time() -> None:
    before = time.monotonic()
    began = machine_clock.machine_clock()
    mark = time.monotonic()
    while (least := time.monotonic() - mark) < 0.01:
        pass
    spent = machine_clock.machine_clock() - began
    assert least - 1e-6 < spent < time.monotonic() - before + 1e-6
