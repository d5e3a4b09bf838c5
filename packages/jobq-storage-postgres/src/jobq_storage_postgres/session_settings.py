"""The settings of jobq's own sessions, or of one transaction behind a pooler.

Plans must not follow statistics. A queue's tables are empty one minute and bloated the next, and a plan that is made
for one state is ruinous in the other. Every statement is written for index scans, so other plans are made unattractive.
"""

from __future__ import annotations

from typing import Final

from jobq_storage_postgres.binary import pack_bool, texts
from jobq_storage_postgres.protocol import Statement, Step

LOCK_SECONDS: Final = 5.0
"""Maximum time, in seconds, that a statement of jobq's own waits for a lock of another transaction."""
IDLE_IN_TRANSACTION_SECONDS: Final = 5.0
"""Time after which the server ends a transaction of jobq's own whose process is paused or lost: its locks are freed."""

_SETTINGS: Final = {
    "idle_in_transaction_session_timeout": str(round(IDLE_IN_TRANSACTION_SECONDS * 1000)),
    # The pool closes idle connections itself, and a listener is always idle.
    "idle_session_timeout": "0",
    # Row level security hides rows silently. With it off, a statement on a table that has it is an error.
    "row_security": "off",
    "standard_conforming_strings": "on",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
    # Processes to help with a count take longer to start than most counts take.
    "max_parallel_workers_per_gather": "0",
    "search_path": "pg_catalog",
    "TimeZone": "UTC",
    "default_transaction_isolation": "read committed",
}

_SET: Final = Statement(
    "set",
    "SELECT set_config(s.name, s.value, $3::boolean) FROM unnest($1::text[], $2::text[]) AS s(name, value) "
    # Acknowledged changes are flushed, whatever the server's default. Nothing stricter than 'on' is weakened.
    "UNION ALL SELECT set_config('synchronous_commit', 'on', $3::boolean) "
    "WHERE $4::boolean AND current_setting('synchronous_commit') = 'off'",
)


def session_settings(time_limit: float, *, local: bool = False, durable: bool = True) -> Step:
    """Return the statement that makes the settings of a session, or with `local` those of a transaction.

    time_limit: seconds after which the server cancels a statement. durable: whether to flush commits where the server's
    default is not to.
    """
    settings = {
        **_SETTINGS,
        "statement_timeout": str(max(1, round(time_limit * 1000))),
        "lock_timeout": str(max(1, round(min(LOCK_SECONDS, time_limit / 2) * 1000))),
    }
    return _SET, (texts(list(settings)), texts(list(settings.values())), pack_bool(local), pack_bool(durable))
