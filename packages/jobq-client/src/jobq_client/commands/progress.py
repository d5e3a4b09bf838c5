"""A progress bar on standard error, for bulk operations."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

import click

from jobq_core.storage import Operation


@contextmanager
def show_progress(total: int | None) -> Generator[Callable[[Operation], None]]:
    """Return what shows an operation's progress. total: the number of jobs; None if it is not known."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    done = 0
    with click.progressbar(length=total or 0, file=sys.stderr, show_pos=True) as bar:

        def show(operation: Operation) -> None:
            nonlocal done
            bar.length = max(bar.length or 0, operation.done)
            bar.update(operation.done - done)
            done = operation.done

        yield show
