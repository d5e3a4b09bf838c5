"""Which queues to claim from: those that may have jobs, in turns, and all of them at each poll."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from itertools import islice
from typing import Final

from jobq_core.storage import ClaimedJob

MOST: Final = 50
"""Maximum number of queues in a claim between polls: each queue costs the storage a read."""


class Lines:
    """The queues of a worker, of which those are candidates that were notified or whose last claim left some.

    all: the queues, in the order of the next poll.
    """

    def __init__(self, queues: Sequence[str]) -> None:
        self.all = deque(queues)
        self._candidates: dict[str, None] = dict.fromkeys(queues)
        self._polls = True

    @property
    def may_have_jobs(self) -> bool:
        """Whether some queue is a candidate."""
        return bool(self._candidates)

    def notify(self, queue: str) -> None:
        """Make a queue a candidate."""
        self._candidates[queue] = None

    def notify_each(self, queues: Collection[str]) -> None:
        """Make these queues candidates, to be asked in one claim if they are many."""
        if len(queues) > MOST:
            self.notify_all()
        else:
            self._candidates.update(dict.fromkeys(queues))

    def notify_all(self) -> None:
        """Make all queues candidates, to be asked in one claim: a poll."""
        self._polls = True
        self._candidates.update(dict.fromkeys(self.all))
        self.all.rotate(-1)

    def next(self) -> tuple[str, ...]:
        """Return the queues to claim from, in order; they are candidates no more."""
        candidates = self._candidates
        count = len(candidates) if self._polls else MOST
        self._polls = False
        asked = tuple(islice(candidates, count))
        for queue in asked:
            del candidates[queue]
        return asked

    def put_back(self, asked: Sequence[str]) -> None:
        """Make these queues candidates again, the first ones: they were not asked."""
        self._candidates = {**dict.fromkeys(asked), **self._candidates}

    def filled(self, asked: Sequence[str], claimed: Sequence[ClaimedJob], paused: Collection[str]) -> None:
        """Record that a claim ended before the last queue was empty.

        The queue in which it ended may have more jobs, and is asked at the end of the next claim. The claim did not
        read the queues after it.
        """
        found = {job.queue for job in claimed} if len(asked) > 1 else asked
        ended_in = max([index for index, queue in enumerate(asked) if queue in found], default=-1)
        order = [queue for queue in asked[ended_in + 1 :] if queue not in paused]
        order += self._candidates
        if ended_in >= 0:
            order = [queue for queue in order if queue != asked[ended_in]]
            order.insert(min(len(order), MOST - 1), asked[ended_in])
        self._candidates = dict.fromkeys(order)
