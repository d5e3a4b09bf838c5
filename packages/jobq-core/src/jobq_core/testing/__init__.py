"""`StorageContract`, the conformance suite for storages, and helpers for a storage's own tests.

The tests of a storage subclass it:

    class TestMyStorage(StorageContract):
        @pytest_asyncio.fixture
        async def storage(self):
            async with MyStorage(...) as storage:  # open, migrated, empty
                yield storage

        async def second(self, storage):
            ...  # another open object on the same data, as in another process; the suite closes it

        async def advance(self, storage, seconds):
            ...  # move the storage's clock forward, for both objects

It needs pytest and pytest-asyncio, in either mode: `pip install jobq-core[testing]`.
"""

import pytest

pytest.register_assert_rewrite("jobq_core.testing.contract", "jobq_core.testing.helpers", "jobq_core.testing.migrating")

from jobq_core.testing.clock import ManualClock  # noqa: E402
from jobq_core.testing.contract import StorageContract  # noqa: E402
from jobq_core.testing.helpers import (  # noqa: E402
    ERROR,
    add_job,
    case,
    claim,
    claim_one,
    job_in,
    new_job,
    read,
    register_worker,
    settle,
    settle_all,
    start_one,
    state_of,
    worker_info,
)
from jobq_core.testing.migrating import fill, work_on  # noqa: E402

__all__ = [
    "ERROR",
    "ManualClock",
    "StorageContract",
    "add_job",
    "case",
    "claim",
    "claim_one",
    "fill",
    "job_in",
    "new_job",
    "read",
    "register_worker",
    "settle",
    "settle_all",
    "start_one",
    "state_of",
    "work_on",
    "worker_info",
]
