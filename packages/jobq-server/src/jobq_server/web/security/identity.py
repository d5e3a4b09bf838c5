"""`Role` and `Identity`: who makes a request, and what they may do."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

from jobq_core.checks import is_one_of
from jobq_core.errors import ConfigurationError
from jobq_core.reprs import short_repr


class Role(StrEnum):
    """What an identity may do. Each role may do what the ones before it may."""

    VIEW = "view"
    """Look at everything, and change nothing."""
    OPERATE = "operate"
    """Add jobs, change them, and pause queues."""
    ADMIN = "admin"
    """Delete jobs, drain workers and change settings."""

    def covers(self, needed: Role) -> bool:
        """Whether this role may do what `needed` may."""
        return _ORDER[self] >= _ORDER[needed]


_ORDER: Final = {role: rank for rank, role in enumerate(Role)}


class Identity(Struct, frozen=True):
    """Who makes a request. name: what the audit shows."""

    name: str
    role: Role


NOBODY: Final = Identity("anonymous", Role.ADMIN)
"""Who makes a request to an application without authentication: someone on this machine."""


def parse_role(role: Any) -> Role:
    """Return the role of a name. Raises ConfigurationError for an unknown one."""
    if not is_one_of(role, Role):
        raise ConfigurationError(f"unknown role {short_repr(role)}; expected one of {', '.join(Role)}")
    return Role(role)
