"""Adding a job of a kind from JSON, for pages and API; and from an old one, whose secrets go along unseen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from jobq_core.adding import AddOptions, new_job, new_job_of_kind
from jobq_core.encoding import decode
from jobq_core.errors import InvalidJobError
from jobq_core.ids import new_id
from jobq_core.masking import MASK, mark_secrets, marked_secrets
from jobq_core.records import JobRecord
from jobq_core.storage import Added, NewJob, QueueStorage
from jobq_server.web.actions import audit
from jobq_server.web.call import Call


async def add_job(
    call: Call, kind: str, arguments: bytes, options: AddOptions, *, like: JobRecord | None = None
) -> Added:
    """Add a job, and keep it in the audit. Raises InvalidJobError, or ConfigurationError for an option.

    like: the job that it is a copy of, whose secrets are secrets of this one.
    """
    job = make_job(call, await _offset(call.storage), kind, arguments, options)
    if like is not None and (names := marked_secrets(like.meta_json) | marked_secrets(job.meta)):
        job = replace(job, meta=mark_secrets(job.meta, sorted(names)))
    (added,) = await call.storage.add([job])
    details = {"kind": job.kind, "queue": job.queue, "created": added.created}
    await audit(call.storage, call.actor, "add", added.id, details=details)
    return added


def make_job(call: Call, offset: float, kind: str, arguments: bytes, options: AddOptions) -> NewJob:
    """Return a job of a kind: as its declaration has it, where the application knows that."""
    definition = call.web.registry.get(kind)
    if definition is None:
        return new_job_of_kind(new_id(offset), kind, arguments, "default", options)
    return new_job(new_id(offset), definition.decode_arguments(arguments), "default", options)


async def _offset(storage: QueueStorage) -> float:
    """Return the seconds that the storage's clock is ahead of this machine's."""
    return (await storage.now() - datetime.now(UTC)).total_seconds()


def with_secrets(kind: str, arguments: bytes, shown: bytes, old: JobRecord) -> bytes:
    """Return new arguments in which what is still masked is as in the old job. shown: its arguments, as they were
    shown. Raises InvalidJobError for arguments that are not an object, and for secrets that would go to another kind,
    whose handler may show them."""
    mask = f'"{MASK}"'.encode()
    try:
        given = msgspec.json.decode(arguments, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidJobError(f"the arguments must be a JSON object: {error}") from None
    before = msgspec.json.decode(old.arguments_json, type=dict[str, msgspec.Raw])
    masked = msgspec.json.decode(shown, type=dict[str, msgspec.Raw])
    for name, value in given.items():
        if bytes(value).strip() == mask and name in before and bytes(masked[name]).strip() == mask:
            if kind != old.kind:
                raise InvalidJobError(f"the secret {name!r} does not go along to another kind: give it again")
            given[name] = before[name]
    whole = msgspec.json.encode(given)
    try:
        decode(whole)
    except InvalidJobError:  # a later error would show them, secrets included
        raise InvalidJobError("the arguments hold a number or a nesting that cannot be stored") from None
    return whole


def options_of(fields: dict[str, Any]) -> AddOptions:
    """Return the options that were given."""
    options: Any = {name: value for name, value in fields.items() if value not in (None, "", [], ())}
    return options  # type: ignore[no-any-return]
