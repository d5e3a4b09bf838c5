"""Tests of an application's jobs, and the conformance suite of storages.

For applications: `ManualClockStorage`, memory storage whose time the test moves; `run_inline`, which runs one handler;
`drain`, which runs all jobs that are due; `assert_added` and `assert_not_added`, which check what the code under test
added. The guide "Test your app" shows them together. Only `drain` needs another distribution, jobq-worker. The fixtures
of pytest are in the plugin that jobq-core installs.

For storages: `StorageContract` and its helpers, which need pytest and pytest-asyncio, in either mode:
`pip install jobq-core[testing]`. They are imported when they are first used. The tests of a storage subclass it:

    class TestMyStorage(StorageContract):
        @pytest_asyncio.fixture
        async def storage(self):
            async with MyStorage(...) as storage:  # open, migrated, empty
                yield storage

        async def second(self, storage):
            ...  # another open object on the same data, as in another process; the suite closes it

        async def advance(self, storage, seconds):
            ...  # move the storage's clock forward, for both objects

Those of a storage that keeps logs subclass `LogsContract` too.
"""

from importlib import import_module  # noqa: TID251  (of this package's own modules)
from typing import TYPE_CHECKING, Any, Final

from jobq_core.testing.added import assert_added, assert_not_added
from jobq_core.testing.clock import ManualClock, ManualClockStorage
from jobq_core.testing.drained import Drained, DrainedRun
from jobq_core.testing.draining import drain, drain_sync
from jobq_core.testing.inline import run_inline, run_inline_sync

if TYPE_CHECKING:
    from jobq_core.testing.contract import LogsContract, StorageContract
    from jobq_core.testing.helpers import (
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
    from jobq_core.testing.migrating import fill, work_on

__all__ = [
    "ERROR",
    "Drained",
    "DrainedRun",
    "LogsContract",
    "ManualClock",
    "ManualClockStorage",
    "StorageContract",
    "add_job",
    "assert_added",
    "assert_not_added",
    "case",
    "claim",
    "claim_one",
    "drain",
    "drain_sync",
    "fill",
    "job_in",
    "new_job",
    "read",
    "register_worker",
    "run_inline",
    "run_inline_sync",
    "settle",
    "settle_all",
    "start_one",
    "state_of",
    "work_on",
    "worker_info",
]

_OF_STORAGES: Final = ("contract", "helpers", "migrating")
"""The modules of the conformance suite."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        import pytest

        modules = [f"{__name__}.{module}" for module in _OF_STORAGES]
        pytest.register_assert_rewrite(*modules)
        for module in map(import_module, modules):
            if hasattr(module, name):
                return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
