"""`Migrations`: the numbered steps of a storage's schema, and which of them a database lacks.

Nothing here touches a database. A storage keeps its migrations as files `NNNN_phase_name.sql` in a folder, and a table
of the name and the checksum of each applied migration. It uses them so:

- `Migrations.read(folder, package)`, once, when they are first needed.
- To open: read the applied migrations, and call `require`.
- To migrate: in one transaction, and under a lock that two callers cannot both hold, read the applied migrations, run
  the text of each migration of `to_apply`, and store its name and checksum.

The phase of a migration is 'pre' where older code keeps working with the new schema, 'post' where it does not. So older
code can tell from the name of a migration that it does not know whether it may go on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from msgspec import Struct

from jobq_core.errors import SchemaError
from jobq_core.storage import Phase

_NAME: Final = re.compile(r"\d{4}_(pre|post)_[a-z0-9_]+")
_REMEDY: Final = "run `jobq migrate`, or `await storage.migrate()` before opening the storage"


class Migration(Struct, frozen=True):
    """One migration. name: the name of its file without `.sql`. text: the SQL."""

    name: str
    text: str

    @property
    def phase(self) -> str:
        """'pre' or 'post'."""
        return self.name.split("_")[1]

    @property
    def checksum(self) -> str:
        """The SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class Migrations(Struct, frozen=True):
    """All migrations that this code knows, in order.

    package: the distribution that they belong to, for error messages.
    Where a method takes `applied`, it is the checksum of each applied migration by its name; None, or empty, if there
    are no tables. `where` names the database in error messages, as "SQLite file /srv/jobs.db".
    """

    package: str
    steps: tuple[Migration, ...]

    @classmethod
    def read(cls, folder: Path, package: str) -> Self:
        """Read the migrations of a folder. Raises SchemaError for an SQL file whose name has no number or phase."""
        steps: list[Migration] = []
        for file in sorted(folder.glob("*.sql")):
            if _NAME.fullmatch(file.stem) is None:
                raise SchemaError(f"migration {file.name} is not named NNNN_pre_name.sql or NNNN_post_name.sql")
            steps.append(Migration(file.stem, file.read_text("utf-8")))
        return cls(package, tuple(steps))

    def require(self, applied: Mapping[str, str] | None, where: str) -> None:
        """Raise SchemaError unless this code can work with a database that has these migrations."""
        if not applied:
            raise SchemaError(f"{where} has no tables of jobq: {_REMEDY}")
        self._refuse_changed(applied, where)
        missing = [step.name for step in self.steps if step.phase == "pre" and step.name not in applied]
        if missing:
            raise SchemaError(
                f"the schema of {where} is older than this code (it lacks {', '.join(missing)}): {_REMEDY}"
            )

    def to_apply(self, applied: Mapping[str, str] | None, phase: Phase, where: str) -> list[Migration]:
        """Return the migrations of a phase that are not applied yet, in order.

        Raises SchemaError for an applied migration whose text changed, and for one that this code does not know and
        cannot work with.
        """
        applied = applied or {}
        self._refuse_changed(applied, where)
        return [step for step in self.steps if step.name not in applied and phase in (step.phase, "all")]

    def _refuse_changed(self, applied: Mapping[str, str], where: str) -> None:
        known = {step.name: step for step in self.steps}
        newer = sorted(name for name in applied.keys() - known.keys() if not name[4:].startswith("_pre_"))
        if newer:
            raise SchemaError(
                f"the schema of {where} is newer than this code (it has {', '.join(newer)}): upgrade {self.package}"
            )
        for name in applied.keys() & known.keys():
            if applied[name] != known[name].checksum:
                raise SchemaError(
                    f"migration {name} of {where} differs from the text that was applied; "
                    "an applied migration must not be edited"
                )
