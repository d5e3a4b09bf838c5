"""How busy a process keeps a processor."""

from __future__ import annotations

import time

from jobq_worker.liveness.processor_share import ProcessorShare, processor_seconds


def test_the_share_is_that_since_the_last_look() -> None:
    now, used = [100.0], [7.0]
    share = ProcessorShare(lambda: now[0], lambda: used[0])
    assert share.take() == 0.0, "no time has passed"
    now[0], used[0] = 110.0, 9.5
    assert share.take() == 0.25
    now[0], used[0] = 112.0, 12.5
    assert share.take() == 1.5
    now[0], used[0] = 113.0, 12.0
    assert share.take() == 0.0, "a thread has ended"


def test_what_the_process_computes_counts() -> None:
    before, start = processor_seconds(), time.process_time()
    while time.process_time() - start < 0.02:
        pass
    assert processor_seconds() - before >= 0.02
