"""Sparing the garbage collector what lives as long as a worker's process."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def frozen() -> Iterator[None]:
    """Take what is there now out of the collector's sight, unless somebody did so before; undone at the end.

    What a worker's process has imported is most of what each full collection would walk through, for nothing.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
