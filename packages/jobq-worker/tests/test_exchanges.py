"""When the next exchange with the storage is due: a table."""

from __future__ import annotations

import pytest

from jobq_worker.claiming.fetcher import Situation, seconds_to_exchange
from jobq_worker.settling.batches import BATCH

CASES = {
    "an idle worker polls": (Situation(now=100, poll_at=100.5, room=10), 0.5),
    "an idle worker whose poll is due": (Situation(now=100, poll_at=100, room=10), 0),
    "an idle worker with a notification": (Situation(now=100, poll_at=101, room=10, may_have_jobs=True), 0),
    "no room": (Situation(now=100, poll_at=0, may_have_jobs=True, running=True), 1),
    "a worker that counts as lost": (Situation(now=100, poll_at=0, room=10, may_have_jobs=True, may_claim=False), 1),
    "a closed limiter": (Situation(now=100, poll_at=0, room=10, may_have_jobs=True, opens_at=100.25), 0.25),
    "a buffer that is more than half full": (
        Situation(now=100, poll_at=100.5, room=4, may_have_jobs=True, claimed=6, ahead=10, stale_at=101),
        0.5,
    ),
    "a buffer that is half empty": (
        Situation(now=100, poll_at=100.5, room=5, may_have_jobs=True, claimed=5, ahead=10, stale_at=101),
        0,
    ),
    "a claimed job that becomes stale": (Situation(now=100, running=True, claimed=1, stale_at=100.2), 0.2),
    "an end beside other runs waits for more": (Situation(now=100, finished=1, running=True), 1),
    "an end that has waited": (Situation(now=100, finished=1, running=True, lingered=True), 0),
    "the last end": (Situation(now=100, finished=1), 0),
    "a full batch": (Situation(now=100, finished=BATCH, running=True), 0),
    "unanswered claims": (Situation(now=100, recover_at=100.1), 0.1),
    "unanswered claims that are overdue": (Situation(now=100, recover_at=99), 0),
    "unanswered claims of a worker that counts as lost": (Situation(now=100, recover_at=99, is_alive=False), 1),
    "a stop with something to settle": (Situation(now=100, stopping=True, finished=1, running=True), 0),
    "a stop with nothing but unanswered claims": (Situation(now=100, stopping=True, recover_at=100.2), 0.2),
}


@pytest.mark.parametrize(("situation", "seconds"), CASES.values(), ids=CASES)
def test_the_next_exchange_is_due(situation: Situation, seconds: float) -> None:
    assert seconds_to_exchange(situation) == pytest.approx(seconds)
