from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from .kit import Stage
from .probe import Probe


@pytest.fixture
async def storage() -> AsyncIterator[Probe]:
    async with Probe() as storage:
        yield storage


@pytest.fixture
async def stage() -> Stage:
    return Stage()


@pytest.fixture(autouse=True)
async def nothing_left_behind() -> AsyncIterator[None]:
    """Fail a test that leaves a task or a heartbeat behind."""
    before = asyncio.all_tasks()
    yield
    left = [task for task in asyncio.all_tasks() - before if task.get_name().startswith("jobq")]
    assert not left
    for thread in threading.enumerate():
        if thread.name == "jobq-heartbeat":
            thread.join(5)  # it has said that it ends; see that it does
            assert not thread.is_alive()
