"""Running initdb and postgres as root, as in most containers: both refuse root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from jobq_storage_postgres.testing.binaries import NoPostgresError


@dataclass(frozen=True)
class Account:
    """The account of a server: `prefix` goes before its command line, or the process changes to `user` and `group`."""

    prefix: tuple[str, ...] = ()
    user: int | None = None
    group: int | None = None

    def own(self, folder: Path) -> None:
        """Give the folder to the account, so that the server can write there."""
        if self.user is not None and self.group is not None:
            os.chown(folder, self.user, self.group)

    def can_run(self, program: Path) -> bool:
        """Whether the account may reach and run the program, which may lie in root's own folders."""
        try:
            return self.run(program, "--version").returncode == 0
        except PermissionError:
            return False

    def run(self, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end, with these environment variables added."""
        return subprocess.run(
            [*self.prefix, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd="/",  # the account may not be allowed where the tests run
            env={**os.environ, **variables},
            user=self.user,
            group=self.group,
            extra_groups=None if self.user is None else [],
        )


def accounts() -> list[Account]:
    """Return the ways to run a server here, the best first."""
    if os.geteuid() != 0:
        return [Account()]
    stand_in = _stand_in()
    # With the mapped account, root's files belong to the server, so no file needs another owner or mode.
    mapped = _mapped(stand_in)
    changed = Account(user=stand_in.pw_uid, group=stand_in.pw_gid)
    return [mapped, changed] if mapped else [changed]


def _stand_in() -> pwd.struct_passwd:
    """Return a user other than root; initdb requires one that has a name."""
    users = {user.pw_name: user for user in pwd.getpwall() if user.pw_uid != 0}
    for name in ("postgres", "nobody", *users):
        if name in users:
            return users[name]
    raise NoPostgresError("the tests run as root, and no other user exists to run the server")


def _mapped(user: pwd.struct_passwd) -> Account | None:
    """Return an account in a user namespace where root appears as `user`, or None where that is not allowed."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    account = Account(prefix=(unshare, "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}", "--"))
    return account if account.run("true").returncode == 0 else None
