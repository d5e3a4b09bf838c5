"""What operators do with the world: they change many jobs, work off bulk operations, ask a worker, keep an audit."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from jobq_core.operations import get, work_to_end
from jobq_core.storage import Action, JobFilter, Operation, OperationState
from jobq_core.testing.contract.operations import new_entry, new_operation
from jobq_core.testing.contract.requests import new_request

from .scenario import Act, Plain, Scenario, Stage, some_rows
from .world import START

SOON = datetime.fromtimestamp(START + 600, UTC)

# Changing jobs


def alter(operation: str, *names: str, value: Any = None) -> Scenario:
    """Return an operation on what jobs wait for."""

    async def act(stage: Stage) -> Any:
        values = () if value is None else (value,)
        return await getattr(stage.storage, operation)([stage.world.id(name) for name in names], *values)

    act.__name__ = operation
    return Scenario(act=act)


# Bulk operations


def operation_of(stage: Stage) -> Operation:
    """Return an operation for the four jobs of a run, of which it changes two."""
    id_ = stage.world.id("operation")
    return new_operation(
        id=id_, action=Action.RESCHEDULE, value=SOON.isoformat(), filter=JobFilter(run_id="run"), before=id_
    )


async def add_operation(stage: Stage) -> Any:
    await stage.storage.add_operation(operation_of(stage))


async def save_operation(stage: Stage) -> Any:
    worked = replace(operation_of(stage), cursor=stage.world.id("two"), done=2, changed=1)
    return await stage.storage.save_operation(worked, seen=None)


async def cancel_operation(stage: Stage) -> Any:
    return await stage.storage.cancel_operation(stage.world.id("operation"))


async def work_off(stage: Stage) -> Any:
    """Work off an operation in two slices. A repeated slice counts its jobs as changed, like the first time."""
    operation = await get(stage.storage, stage.world.id("operation"))
    return await work_to_end(stage.storage, operation, slice=2)


async def see_operations(stage: Stage) -> Any:
    return await stage.other.operations()


def slices(before: Plain, after: Plain, seen: Plain) -> bool:
    """Whether an operation has done what it says, and perhaps one slice more that it has not saved yet."""
    (operation,) = seen["seen"]
    jobs = [job for job in seen["records"] if job["run_id"] == "run"]
    if operation["state"] == OperationState.RUNNING:
        worked = [job for job in jobs if operation["cursor"] is not None and job["id"] >= operation["cursor"]]
    else:
        worked = jobs
    is_done = len(worked) == operation["done"] and all(job in after["records"] for job in worked)
    others = before.keys() - {"seen"}
    return is_done and all(some_rows(before[name], after[name], seen[name]) for name in others)


# Requests to workers


async def ask_worker(stage: Stage) -> Any:
    request = new_request(stage.world.id("mate"), id=stage.world.id("request"), job=stage.world.id("one"))
    return await stage.storage.ask_worker(request)


async def answer_request(stage: Stage) -> Any:
    return await stage.storage.answer_request(stage.world.id("request"), "Thread 1 …")


async def answer_from_a_thread(stage: Stage) -> Any:
    if stage.heartbeat is None:
        stage.heartbeat = stage.storage.heartbeat(stage.world.worker("mate"))
    return await asyncio.to_thread(stage.heartbeat.answer, stage.world.id("request"), "Thread 1 …")


async def see_requests(stage: Stage) -> Any:
    return await stage.other.get_requests([stage.world.id("request")])


# The audit


async def record_audit(stage: Stage) -> Any:
    entries = [new_entry(id=stage.world.id(f"entry {n}"), details={"n": n}) for n in range(3)]
    await stage.storage.record_audit(entries)


async def see_audit(stage: Stage) -> Any:
    return await stage.other.audit()


def traced(act: Act, see: Act, before: Act | None = None) -> Scenario:
    return Scenario(act=act, before=before, see=see, aside=True)


OPERATORS: dict[str, tuple[Scenario, ...]] = {
    # Each on jobs that it changes in different ways, and on one that it does not change.
    "run_now": (alter("run_now", "later", "due in b", "odd", "disabled", "never"),),
    "reschedule": (alter("reschedule", "ready", "handed back", "later", "disabled", "one", value=SOON),),
    "move": (alter("move", "ready", "handed back", "keyed", "odd", "later", "one", value="b"),),
    "set_priority": (alter("set_priority", "ready", "handed back", "odd", "disabled", "failed", value=7),),
    "add_operation": (traced(add_operation, see_operations),),
    "save_operation": (
        traced(save_operation, see_operations, before=add_operation),
        Scenario(act=work_off, before=add_operation, see=see_operations, partly=slices),
    ),
    "cancel_operation": (traced(cancel_operation, see_operations, before=add_operation),),
    "record_audit": (traced(record_audit, see_audit),),
    "ask_worker": (traced(ask_worker, see_requests),),
    "answer_request": (
        traced(answer_request, see_requests, before=ask_worker),
        traced(answer_from_a_thread, see_requests, before=ask_worker),
    ),
}
