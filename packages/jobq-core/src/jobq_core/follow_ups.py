"""`FollowUp`: the job that is added when another one has completed, or has failed for good.

It is made of what is stored, and not by code of the application: no error of such code can come between a job and its
end, and the worker need not know the follow-up.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import attrs
import msgspec
from msgspec import Raw

from jobq_core.adding import decode_headers, new_job
from jobq_core.encoding import MAX_ARGUMENTS
from jobq_core.errors import ConfigurationError, InvalidJobError
from jobq_core.job import Job, JobDefinition, definition_of
from jobq_core.records import ErrorRecord
from jobq_core.storage import ClaimedJob, NewJob

OF_SUCCESS: Final = ("job_id", "kind", "result")
"""What a follow-up of a completed job can take by name, beside the job's arguments."""
OF_FAILURE: Final = ("job_id", "kind", "error")
"""The same of a failed job."""

_NOT_GIVEN: Final = attrs.NOTHING


class FollowUp(msgspec.Struct, frozen=True):
    """A kind of job, whose arguments are found by their names, or a job value, which is added as it is."""

    definition: JobDefinition
    job: Job[Any] | None

    def make(
        self, id: UUID, ended: ClaimedJob, *, result: bytes | None = None, error: ErrorRecord | None = None
    ) -> NewJob:
        """Return the job to store with the end of `ended`; raises InvalidJobError if its arguments take too much."""
        if self.job is not None:
            headers = decode_headers(ended.meta)
            new = new_job(id, self.job, ended.queue, {"headers": headers})
            return msgspec.structs.replace(new, run_id=ended.run_id)
        known: dict[str, Raw] = msgspec.json.decode(ended.arguments, type=dict[str, Raw])
        known["job_id"] = Raw(msgspec.json.encode(ended.id))
        known["kind"] = Raw(msgspec.json.encode(ended.kind))
        if result is not None:
            known["result"] = Raw(result)
        if error is not None:
            known["error"] = Raw(msgspec.json.encode(error))
        fields = _fields(self.definition)
        arguments = msgspec.json.encode({field.name: known[field.name] for field in fields if field.name in known})
        if len(arguments) > MAX_ARGUMENTS:
            raise InvalidJobError(f"the arguments of {self.definition.kind} take {len(arguments)} bytes as JSON")
        definition = self.definition
        return NewJob(
            id=id,
            queue=definition.queue or ended.queue,
            kind=definition.kind,
            arguments=arguments,
            priority=definition.priority,
            timeout=definition.timeout,
            max_attempts=definition.max_attempts,
            run_id=ended.run_id,
            fingerprint=definition.fingerprint_of(arguments),
            meta=ended.meta,
        )


def check_follow_up(given: Any, option: str, kind: str, known: tuple[str, ...], arguments: list[str]) -> FollowUp:
    """Return the follow-up of a declaration; raises ConfigurationError for a value that cannot be one.

    known: names that it can take beside the arguments of the job.
    """
    definition = definition_of(given)
    if isinstance(given, Job):
        return FollowUp(definition, given)
    for field in _fields(definition):
        if field.default is _NOT_GIVEN and field.name not in (*known, *arguments):
            raise ConfigurationError(
                f"job {kind}: {option}={definition.kind} needs {field.name!r}; it can take {', '.join(known)} and the "
                f"arguments of {kind}: give this one a default, or give a job, as in {option}=alert(channel='ops')"
            )
    return FollowUp(definition, None)


def _fields(definition: JobDefinition) -> tuple[attrs.Attribute[Any], ...]:
    job_type: Any = definition.job_type
    return attrs.fields(job_type)  # type: ignore[no-any-return]
