"""`livez` and `readyz`: what a service manager asks of a worker, answered from its health alone."""

from __future__ import annotations

from jobq_core.health import Check, HealthReport
from jobq_worker.health import WorkerHealth
from jobq_worker.liveness.loop_watch import UNANSWERED_SECONDS


def livez(health: WorkerHealth) -> HealthReport:
    """Return whether the process works. If it does not, only a restart helps.

    An unavailable storage does not fail it, since a restart would not help, nor does a stop that is in progress.
    """
    return HealthReport(
        {
            "state": Check(health.state != "stopped" and not health.broken, f"{health.state}{_broken(health)}"),
            "loop": _loop(health, health.lost_after),
            "heartbeat": _heartbeat(health),
        }
    )


def readyz(health: WorkerHealth) -> HealthReport:
    """Return whether the worker takes jobs: it runs and does not stop, reaches the storage, and few handlers hang."""
    return HealthReport(
        {
            "state": Check(health.state == "running" and not health.broken, f"{health.state}{_broken(health)}"),
            "lease": Check(health.alive, "stands" if health.alive else "may have run out: the worker starts no jobs"),
            "loop": _loop(health, UNANSWERED_SECONDS),
            "storage": _storage(health),
            "schema": _schema(health),
            "notifications": _notifications(health),
            "handlers": Check(not health.exhausted, f"{health.running} running, {health.hung} hung"),
        }
    )


def _broken(health: WorkerHealth) -> str:
    return ", but a part of the worker has ended" if health.broken else ""


def _loop(health: WorkerHealth, limit: float) -> Check:
    if health.loop_lag == 0:
        return Check(True, "the event loop responds")
    return Check(
        health.loop_lag < limit,
        f"the event loop has been blocked for {health.loop_lag:.1f} s; the limit is {limit:g} s",
    )


def _heartbeat(health: WorkerHealth) -> Check:
    if health.since_beat is None:
        return Check(True, "the worker has not registered yet")
    said = f"the last heartbeat was {health.since_beat:.1f} s ago; the limit is {health.lost_after:g} s"
    if health.storage_failing:
        return Check(True, f"{said}, while the storage fails")
    return Check(health.since_beat < health.lost_after, said)


def _storage(health: WorkerHealth) -> Check:
    if not health.storage_failing or _is_schema_error(health):
        return Check(True, "the storage responds")
    return Check(False, f"calls have failed for {health.storage_failing_for or 0:.1f} s: {health.storage_error}")


def _schema(health: WorkerHealth) -> Check:
    if _is_schema_error(health):
        return Check(False, str(health.storage_error))
    return Check(True, "this version works with the tables")


def _is_schema_error(health: WorkerHealth) -> bool:
    return health.storage_failing and (health.storage_error or "").startswith("SchemaError")


def _notifications(health: WorkerHealth) -> Check:
    if health.hears:
        return Check(True, "notifications arrive")
    return Check(True, "no notifications arrive: the worker polls")
