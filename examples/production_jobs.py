"""The jobs of the production example, which the app, the server and the workers share. It imports none of them."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import attrs

from jobq_core import Job, JobContext, PermanentJobError, job

PACK_QUEUE = "example-pack"
VERIFY_QUEUE = "example-verify"


@attrs.frozen(kw_only=True)
class Packed:
    """One file in the archive: its path, its checksum before packing, and its size in bytes before and after."""

    path: str
    sha256: str
    before: int
    after: int


@job(queue=PACK_QUEUE, timeout=60, max_attempts=3)
class Pack(Job[Packed]):
    """Compress a file into the archive. This is only a contract: the server has the handler."""

    source: str
    archive: str


@job(queue=VERIFY_QUEUE, timeout=60)
def verify(context: JobContext, packed: Packed) -> bool:
    """Unpack a file of the archive in memory and compare its checksum, in a thread of a plain worker."""
    digest = hashlib.sha256()
    size = 0
    with gzip.open(packed.path) as file:
        while chunk := file.read(65_536):
            context.check_aborted()
            digest.update(chunk)
            size += len(chunk)
            context.progress(min(100 * size / packed.before, 100), Path(packed.path).name)
    if digest.hexdigest() != packed.sha256:
        raise PermanentJobError(f"{packed.path} is damaged")
    return True
