"""Where handlers run: coroutines on the event loop, plain functions in threads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from jobq_worker.executors.coroutines import CoroutineExecutor
from jobq_worker.executors.threads import ThreadExecutor

EXECUTORS: Final[Mapping[str, type[CoroutineExecutor | ThreadExecutor]]] = {
    CoroutineExecutor.name: CoroutineExecutor,
    ThreadExecutor.name: ThreadExecutor,
}
"""The class of each executor, by its name in `@job(executor=…)`. It is given the function to call with ended runs."""
