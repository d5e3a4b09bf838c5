"""`FollowUp`: the job that is added when another one has completed, or has failed for good.

It is made of what is stored, and not by code of the application: no error of such code can come between a job and its
end. The program that adds it knows neither the kind of the job that ended nor its own: what a failed job needs for its
follow-up is stored with it.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import attrs
import msgspec
from msgspec import Raw

from jobq_core.encoding import MAX_ARGUMENTS
from jobq_core.encoding import fingerprint as make_fingerprint
from jobq_core.errors import ConfigurationError, InvalidJobError
from jobq_core.job import Job, definition_of
from jobq_core.masking import mark_secrets, marked_secrets
from jobq_core.parents import with_parent
from jobq_core.storage import ClaimedJob, FailedJob, NewJob
from jobq_core.storage.keeper import NULL

OF_SUCCESS: Final = ("job_id", "kind", "result")
"""What a follow-up of a completed job can take by name, beside the job's arguments."""
OF_FAILURE: Final = ("job_id", "kind", "error")
"""The same of a failed job."""

_NOT_GIVEN: Final = attrs.NOTHING


class FollowUp(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a job that follows another one is made of, with an attribute for each setting that its kind declares.

    takes: names of the arguments, which are found by their names. arguments: those of a job value, which is added as it
    is; `null` for a kind. has_fingerprint: whether jobs of the kind are stored with one. secrets: names of arguments
    that hold a Secret. follow_up: what follows the follow-up itself if it fails, or `null`.
    """

    kind: str
    takes: tuple[str, ...] = ()
    arguments: Raw = NULL
    queue: str | None = None
    priority: int = 0
    timeout: float | None = None
    max_attempts: int = 10
    has_fingerprint: bool = False
    secrets: tuple[str, ...] = ()
    follow_up: Raw = NULL

    def of_success(self, id: UUID, job: ClaimedJob, result: bytes) -> NewJob:
        """Return the job to store with a completion. Raises InvalidJobError if its arguments take too much."""
        arguments = self._arguments(job, {"result": Raw(result)})
        if len(arguments) > MAX_ARGUMENTS:
            raise InvalidJobError(f"the arguments of {self.kind} take {len(arguments)} bytes as JSON")
        return self._make(id, job, arguments, job.meta)

    def of_failure(self, id: UUID, job: FailedJob) -> NewJob:
        """Return the job to add after a failure. Its arguments may take more than others, by the size of the error."""
        error = {} if job.error is None else {"error": Raw(msgspec.json.encode(job.error))}
        return self._make(id, job, self._arguments(job, error), _given(job.meta))

    def _arguments(self, job: ClaimedJob | FailedJob, found: dict[str, Raw]) -> bytes:
        given = _given(self.arguments)
        if given is not None:
            return given
        known = msgspec.json.decode(job.arguments, type=dict[str, Raw])
        known["job_id"] = Raw(msgspec.json.encode(job.id))
        known["kind"] = Raw(msgspec.json.encode(job.kind))
        known |= found
        return msgspec.json.encode({name: known[name] for name in self.takes if name in known})

    def _make(self, id: UUID, job: ClaimedJob | FailedJob, arguments: bytes, meta: bytes | None) -> NewJob:
        meta = with_parent(meta, job.id)
        if self.secrets:
            meta = mark_secrets(meta, sorted({*marked_secrets(meta), *self.secrets}))
        return NewJob(
            id=id,
            queue=self.queue or job.queue,
            kind=self.kind,
            arguments=arguments,
            priority=self.priority,
            timeout=self.timeout,
            max_attempts=self.max_attempts,
            run_id=job.run_id,
            fingerprint=make_fingerprint(self.kind, arguments) if self.has_fingerprint else None,
            meta=meta,
            follow_up=_given(self.follow_up),
        )


def _given(json: Raw) -> bytes | None:
    """Return JSON; None for `null`."""
    data = bytes(json)
    return None if data == b"null" else data


def follow_failure(id: UUID, job: FailedJob) -> NewJob:
    """Return the job that follows this one. Raises an error of msgspec for what is stored of another form."""
    return msgspec.json.decode(job.follow_up, type=FollowUp).of_failure(id, job)


def check_follow_up(given: Any, option: str, kind: str, known: tuple[str, ...], arguments: list[str]) -> FollowUp:
    """Return the follow-up of a declaration. Raises ConfigurationError for a value that cannot be one.

    known: names that it can take beside the arguments of the job.
    """
    definition = definition_of(given)
    job_type: Any = definition.job_type
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(job_type)
    for field in () if isinstance(given, Job) else fields:
        if field.default is _NOT_GIVEN and field.name not in (*known, *arguments):
            raise ConfigurationError(
                f"job {kind}: {option}={definition.kind} needs {field.name!r}; it can take {', '.join(known)} and the "
                f"arguments of {kind}: give this one a default, or give a job, as in {option}=alert(channel='ops')"
            )
    value = NULL
    if isinstance(given, Job):
        try:
            value = Raw(definition.encode_arguments(given))
        except InvalidJobError as error:
            raise ConfigurationError(f"job {kind}: {option}: {error}") from None
    return FollowUp(
        kind=definition.kind,
        takes=() if isinstance(given, Job) else tuple(field.name for field in fields),
        arguments=value,
        queue=definition.queue,
        priority=definition.priority,
        timeout=definition.timeout,
        max_attempts=definition.max_attempts,
        has_fingerprint=definition.fingerprint,
        secrets=tuple(definition.secrets),
        follow_up=NULL if definition.on_failure is None else Raw(definition.on_failure),
    )
