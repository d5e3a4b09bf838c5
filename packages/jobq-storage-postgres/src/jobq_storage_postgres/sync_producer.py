"""`PostgresSyncProducer`: adds jobs from threads, over connections of its own that need no event loop.

It runs the programs that the event loop runs (see `programs`), and notifies as `riding` describes: the notification
goes out in the same flush, behind the add. One that the server delays holds its connection up; the next add then goes
over another.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import psycopg

from jobq_core.errors import StorageError
from jobq_core.storage import Added, NewJob, SyncProducer
from jobq_storage_postgres.adding_programs import add_alone, has_unique
from jobq_storage_postgres.coalescing import Coalescer
from jobq_storage_postgres.engine import Engine
from jobq_storage_postgres.errors import translate
from jobq_storage_postgres.notifier import LONGEST_ADD_SECONDS, notification
from jobq_storage_postgres.programs import Rows, drive_sync
from jobq_storage_postgres.protocol import Step
from jobq_storage_postgres.sync_session import SyncSession
from jobq_storage_postgres.topics import topics_of

MAX_SESSIONS: Final = 3
"""Maximum number of connections: one that a delayed notification holds up, one that the notification before holds up
for a moment more, and one for the adds meanwhile."""


class PostgresSyncProducer(SyncProducer):
    """Adds jobs to lines that the storage knows to be registered; any others are left to `ProducerStorage.add`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sessions: list[SyncSession] = []
        """By the age of the last notification that each sent."""
        self._coalescer = Coalescer()
        self._last_add_seconds = 0.0
        self._pooled = False

    def add(self, jobs: Sequence[NewJob], *, timeout: float) -> list[Added] | None:
        if self._pooled or has_unique(jobs) or not self._engine.lines.knows(jobs):
            return None
        deadline = time.monotonic() + timeout
        user, names, lost = "", ["connect"], self._engine.pool.lost
        try:
            session = self._take(deadline)
            # A lost connection was perhaps found: another server may lack the lines.
            if session is None or (lost != self._engine.pool.lost and not self._engine.lines.knows(jobs)):
                return None
            user = session.user
            rider = self._rider(topics_of(jobs))

            def run(steps: Sequence[Step]) -> Rows:
                nonlocal rider, names
                names = [statement.name for statement, _ in steps]
                sent, rider = rider, None
                if sent is not None:
                    self._sessions.remove(session)
                    self._sessions.append(session)
                return session.fetch_all(steps, sent, deadline)

            began = time.monotonic()
            added = drive_sync(add_alone(self._engine.statements, jobs), run)
            self._last_add_seconds = time.monotonic() - began
            return added
        except psycopg.Error as error:
            self._coalescer.lost()
            raise translate(error, user, names) from error
        except (LookupError, TypeError, ValueError) as error:
            self._coalescer.lost()
            raise StorageError(f"PostgreSQL's answer does not match the statement: {error}") from error

    def close(self) -> None:
        for session in self._sessions:
            session.finish_rider(time.monotonic() + self._engine.settings.time_limit)
            session.close()
        self._sessions.clear()

    def _take(self, deadline: float) -> SyncSession | None:
        """Return a session that can be used now; None behind a pooler, where sessions keep nothing."""
        for session in list(self._sessions):
            if session.finish_rider(0.0) and session.is_fresh():
                return session
            if session.closed:
                self._drop(session)
        if len(self._sessions) >= MAX_SESSIONS:
            session = self._sessions[0]
            session.finish_rider(deadline)
            if not session.closed:
                return session
            self._drop(session)
        settings = self._engine.settings
        made = SyncSession(settings.address, settings.time_limit, deadline, prepared=settings.prepared)
        if made.pooled:
            self._pooled = True
            made.close()
            return None
        self._sessions.insert(0, made)
        return made

    def _drop(self, session: SyncSession) -> None:
        self._sessions.remove(session)
        self._coalescer.lost()
        if session.lost:
            self._engine.pool.lost += 1

    def _rider(self, topics: set[str]) -> Step | None:
        """Return the statement that announces an add, to be sent along; None if it is announced already."""
        now = time.monotonic()
        takes = min(self._last_add_seconds, LONGEST_ADD_SECONDS)
        if self._coalescer.covers(topics, now + takes):
            return None
        sent, delay = self._coalescer.send(topics, now, delayed=True, lead=takes)
        return notification(self._engine.statements, self._engine.settings.channel, "", sorted(sent), delay)
