"""Roles' rights: each part of jobq as a set of privileges, granted to roles that the administrator created.

Partitions are reached through their parents, whose privileges count, so new partitions need no grants. The functions
that create and drop partitions run with the rights of the tables' owner.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final, Literal, TypeAlias

from psycopg.sql import Identifier

from jobq_core.errors import ConfigurationError, StorageError

Part: TypeAlias = Literal["producer", "worker", "reader", "operator"]

Privileges: TypeAlias = "Mapping[str, tuple[str, ...]]"
"""By the table, view, sequence or function: the verbs."""

_READ: Final[Privileges] = {
    "job": ("SELECT",),
    "job_state": ("SELECT",),
    "attempt": ("SELECT",),
    "job_log": ("SELECT",),
    "maintenance": ("SELECT",),  # identifies the database of a caller's connection
}

_COUNT: Final[Privileges] = dict.fromkeys(
    (
        "waiting",
        "ready",
        "running",
        "outcome",
        "tally",
        "statistic",
        "queue",
        "depth",
        "depth_point",
        "operation",
        "audit",
        "ended",
    ),
    ("SELECT",),
)

_OPEN: Final[Privileges] = {"migration": ("SELECT",)}

PARTS: Final[Mapping[Part, Privileges]] = {
    # Adds jobs and waits for them. DELETE on unique_key releases a key that was taken for a job which was added and
    # finished meanwhile.
    "producer": {
        **_OPEN,
        **_READ,
        "job": ("SELECT", "INSERT"),
        "job_tag": ("INSERT",),
        "waiting": ("INSERT",),
        "ready": ("INSERT",),
        "line": ("SELECT", "INSERT"),
        "outcome": ("SELECT",),
        "unique_key": ("SELECT", "INSERT", "DELETE"),
        "position": ("USAGE",),
        "analyze()": ("EXECUTE",),
    },
    # Runs jobs, and does the maintenance. FOR UPDATE requires UPDATE too.
    "worker": {
        **_OPEN,
        "job": ("SELECT", "INSERT", "DELETE"),
        "job_tag": ("SELECT", "INSERT", "DELETE"),
        "job_state": ("SELECT",),
        "waiting": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "ready": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "running": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "outcome": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "attempt": ("SELECT", "INSERT", "DELETE"),
        "job_log": ("SELECT", "INSERT", "DELETE"),
        "unique_key": ("SELECT", "INSERT", "DELETE"),
        "worker": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "maintenance": ("SELECT", "UPDATE"),
        "queue": ("SELECT", "INSERT", "UPDATE"),
        "line": ("SELECT", "INSERT", "UPDATE"),
        "ended": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "tally": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "statistic": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "depth": ("SELECT", "INSERT", "UPDATE"),
        "operation": ("SELECT", "UPDATE", "DELETE"),
        "audit": ("SELECT", "UPDATE", "DELETE"),
        "worker_request": ("SELECT", "UPDATE", "DELETE"),
        "depth_point": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "skipped": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "position": ("USAGE", "SELECT"),
        "lease": ("USAGE",),
        "make_partitions()": ("EXECUTE",),
        "drop_partitions(interval, integer)": ("EXECUTE",),
    },
    # Reads, and changes nothing.
    "reader": {**_OPEN, **_READ, **_COUNT, "job_tag": ("SELECT",), "worker": ("SELECT",)},
    # Reads, and aborts, retries, disables, enables and deletes jobs by hand.
    "operator": {
        **_OPEN,
        **_READ,
        **_COUNT,
        "job": ("SELECT", "DELETE"),
        "job_tag": ("SELECT", "DELETE"),
        "waiting": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "ready": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "running": ("SELECT", "UPDATE", "DELETE"),
        "outcome": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "attempt": ("SELECT", "DELETE"),
        "job_log": ("SELECT", "DELETE"),
        "unique_key": ("SELECT", "INSERT", "DELETE"),
        "tally": ("SELECT", "INSERT"),
        "ended": ("SELECT", "INSERT"),
        "queue": ("SELECT", "INSERT", "UPDATE"),
        "line": ("SELECT", "INSERT", "UPDATE"),
        "worker": ("SELECT",),
        "operation": ("SELECT", "INSERT", "UPDATE"),
        "audit": ("SELECT", "INSERT"),
        "worker_request": ("SELECT", "INSERT"),
        "position": ("USAGE",),
    },
}

_ALL: Final = frozenset(
    {"has_migrations", "applied", "now", "notify", "notify_later", "notify_within", "unsafe_settings", "default_size"}
    | {"installation", "is_there"}
)
_READS: Final = frozenset({"get", "get_status", "output_for", "read_logs"})
_FINDS: Final = (
    _READS
    | {"find", "find_run", "find_state", "find_line", "find_tag", "counts", "counts_of", "queues"}
    | {"summaries", "count_tokens", "count_added", "jobs_ahead", "count_overdue", "depths", "depth_history"}
    | {"statistics", "statistics_together", "workers", "oldest_transaction", "audit"}
    | {"operations", "newest_operations", "running_operations"}
    | {"diagnose_horizon", "diagnose_slots", "diagnose_locks", "diagnose_server", "diagnose_settings"}
    | {"diagnose_tables", "diagnose_indexes", "diagnose_sequences", "diagnose_tally", "diagnose_ended"}
)

STATEMENTS: Final[Mapping[Part, frozenset[str]]] = {
    "producer": _ALL
    | _READS
    | {"register_lines", "add", "add_keyed", "add_one", "add_ready"}
    | {"claim_keys", "drop_keys", "release_keys", "analyze"},
    "reader": _ALL | _FINDS,
    "worker": _ALL
    | {
        "claim",
        "claim_limited",
        "drop_ghosts",
        "free_kinds",
        "alive",
        "complete",
        "hold_run",
        "settle",
        "mark_started",
        "check_leases",
        "recover_claims",
        "progress",
        "write_logs",
    }
    | {
        "lines",
        "lowest_positions",
        "note_skipped",
        "register",
        "deregister",
        "beat",
        "lead",
        "shift_leases",
        "resign",
        "promote",
        "next_due",
    }
    | {
        "lost_workers",
        "rescue",
        "any_skipped",
        "expire",
        "next_deadline",
        "admit",
        "resolve",
        "register_lines",
        "add",
        "add_ready",
        "sweep",
        "forget_skipped",
        "set_queue",
        "prune",
        "fold_tally",
        "forget_depths",
        "forget_records",
        "worker_requests",
        "answer_request",
        "sample_depths",
        "make_partitions",
        "drop_partitions",
    }
    | {"statistics", "workers", "queues", "oldest_transaction"},
    "operator": _ALL
    | _FINDS
    | {"abort", "unfinished_of_run", "retry", "busy_key", "disable", "enable", "delete", "in_queue", "set_queue"}
    | {"reschedule", "move", "set_priority", "add_operation", "save_operation", "cancel_operation", "record_audit"}
    | {"ask_worker", "get_requests"},
}
"""The statements that each part runs; a part that may do less comes first."""


def grants(schema: str, roles: Mapping[Part, Collection[str]]) -> list[str]:
    """Return the statements that grant each role the rights of its part. The owner of the schema runs them.

    They may be run repeatedly. Raises ConfigurationError for an invalid role name.
    """
    made: list[str] = []
    for part, names in roles.items():
        for name in names:
            role = _quote(_check_role(name))
            made.append(f"GRANT USAGE ON SCHEMA {_quote(schema)} TO {role}")
            for verbs, objects in _by_verbs(PARTS[part]):
                made += [
                    f"GRANT {', '.join(verbs)} ON {kind} {', '.join(_name(schema, o) for o in named)} TO {role}"
                    for kind, named in _by_kind(objects)
                ]
    return made


def as_script(statements: Iterable[str]) -> str:
    """Return statements as one script for psql, which fails as a whole."""
    return "\n".join(["BEGIN;", *(f"{statement};" for statement in statements), "COMMIT;"])


def denied(said: str, user: str, names: Collection[str]) -> StorageError:
    """Return the error for a privilege that is missing. said: by the server; names: of the statements that were run."""
    refused = f"role {user!r} lacks a privilege: {said}"
    known = frozenset().union(*STATEMENTS.values()).intersection(names)
    parts: list[Part] = [part for part, statements in STATEMENTS.items() if statements.issuperset(known)]
    part = parts[0] if parts else "worker"
    verbs = next((verbs for thing, verbs in PARTS[part].items() if said.endswith(f" {_bare(thing)}")), ("USAGE",))
    return StorageError(
        f"{refused} (a {part} needs {', '.join(verbs)} there): have its owner run `jobq grant --{part} {user}`"
    )


def _check_role(name: str) -> str:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = 0  # a lone surrogate
    # PostgreSQL takes 'public' and 'none' for what they say, quoted or not.
    if not 1 <= size <= 63 or "\0" in name or name in ("public", "none"):
        raise ConfigurationError(f"a role must be a name of 1 to 63 bytes, neither 'public' nor 'none', not {name!r}")
    return name


def _quote(*names: str) -> str:
    return Identifier(*names).as_string(None)


def _bare(thing: str) -> str:
    return thing.partition("(")[0]


def _name(schema: str, thing: str) -> str:
    name, mark, arguments = thing.partition("(")
    return _quote(schema, name) + mark + arguments


def _by_verbs(privileges: Privileges) -> list[tuple[tuple[str, ...], list[str]]]:
    found: dict[tuple[str, ...], list[str]] = {}
    for thing, verbs in privileges.items():
        found.setdefault(verbs, []).append(thing)
    return list(found.items())


def _by_kind(objects: Iterable[str]) -> list[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for thing in objects:
        kind = "FUNCTION" if "(" in thing else "SEQUENCE" if thing in ("position", "lease") else "TABLE"
        found.setdefault(kind, []).append(thing)
    return list(found.items())
