"""`Coalescer`: which notifications can be left out, and how long the server waits before it sends one.

A notification that the server sends `delay` seconds after it was told to covers all changes that are committed in
that time: for them no other one is sent. So a notification is on its way whenever a change is committed, and a flood
of changes sends few, without a timer in this process, whose event loop may be blocked and which may end at any time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

GAP_SECONDS: Final = 0.002
"""Minimum time between two notifications."""
STEADY_GAP_SECONDS: Final = 0.005
"""Mean time between two notifications in a flood."""
BURST_SECONDS: Final = 0.5
"""How far a burst may run ahead of the steady pace."""
RECENT_SECONDS: Final = 0.02
"""For how long the next delayed notification names a topic again, since it probably changes again."""
MAX_RECENT: Final = 100
"""Maximum number of topics that a delayed notification names in advance."""


class Coalescer:
    """The notifications of one process that are under way. All times are of one monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._covered: dict[str, float] = {}
        self._recent: dict[str, float] = {}
        self._delayed_until = 0.0

    def covers(self, topics: Iterable[str], moment: float) -> bool:
        """Return whether changes of these topics that are committed until this moment are announced already."""
        covered = self._covered
        return all(covered.get(topic, 0.0) >= moment for topic in topics)

    def send(self, topics: Iterable[str], now: float, *, delayed: bool, lead: float = 0.0) -> tuple[set[str], float]:
        """Count a notification that is sent now. Returns its topics, and the seconds that the server waits with it.

        delayed: whether it may be delayed. It is not while the delayed one before it is under way for more than `lead`
        seconds.
        """
        sent = set(topics)
        for topic in sent:
            self._recent[topic] = now + RECENT_SECONDS
        delay = 0.0
        if delayed and self._delayed_until <= now + lead:
            delay = max(0.0, self._pace.wait(now))
        self._pace.record(now + delay)
        if not delay:
            return sent, 0.0
        self._recent = {topic: until for topic, until in self._recent.items() if until > now}
        sent.update(list(self._recent)[:MAX_RECENT])
        self._delayed_until = now + delay
        self._covered = dict.fromkeys(sent, now + delay)
        return sent, delay

    def lost(self) -> None:
        """Cover no further changes: a notification may be lost."""
        self._covered.clear()


class Pace:
    """When the next notification is due: a leaky bucket."""

    def __init__(self) -> None:
        self._next = 0.0
        self._paid = 0.0

    def wait(self, now: float) -> float:
        """Return the seconds until the next notification is due; not positive if it is."""
        return self._next - now

    def record(self, moment: float) -> None:
        """Count a notification that takes effect at this moment."""
        # When all notifications so far would be sent at the steady pace; bounded, so that a flood is soon forgotten.
        self._paid = min(max(self._paid, moment), moment + BURST_SECONDS) + STEADY_GAP_SECONDS
        self._next = max(moment + GAP_SECONDS, self._paid - BURST_SECONDS)
