"""Where handlers run: coroutines on the event loop, plain functions in threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from jobq_worker.executors.coroutines import CoroutineExecutor
from jobq_worker.executors.threads import ThreadExecutor
from jobq_worker.run import Executor, Run

EXECUTORS: Final[Mapping[str, Callable[[Callable[[Run], None]], Executor]]] = {
    CoroutineExecutor.name: CoroutineExecutor,
    ThreadExecutor.name: ThreadExecutor,
}
"""What makes each executor, by its name in `@job(executor=…)`. It is given the function to call with ended runs."""
