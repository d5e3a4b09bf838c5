"""`Credentials`: tokens, and users with passwords, compared in constant time."""

from __future__ import annotations

import binascii
import functools
import hashlib
import hmac
import tomllib
from base64 import b64decode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

from starlette.requests import Request

from jobq_core.errors import ConfigurationError
from jobq_core.job import check_name
from jobq_server.web.security.identity import Identity, Role, parse_role

MIN_SECRET: Final = 12
"""The fewest characters of a token or a password."""


class Credentials:
    """Tokens (`Authorization: Bearer …`) and users (`Authorization: Basic …`), each with a role.

    tokens: the name and the role of each token, by token. users: the password and the role of each user, by name.

    Raises ConfigurationError for a secret of less than 12 characters, a name that is given twice, and for none at all.
    """

    def __init__(
        self,
        *,
        tokens: Mapping[str, tuple[str, Role | str]] | None = None,
        users: Mapping[str, tuple[str, Role | str]] | None = None,
    ) -> None:
        self._tokens: list[tuple[bytes, Identity]] = []
        self._users: list[tuple[bytes, Identity]] = []
        self._identities: dict[str, Identity] = {}
        for token, (name, role) in (tokens or {}).items():
            if not _check_secret(token, name).isascii():
                raise ConfigurationError(f"the token of {name!r} must be ASCII: a header can hold nothing else")
            self._tokens.append((_digest(token), self._add(name, role)))
        for name, (password, role) in (users or {}).items():
            self._users.append((_digest(f"{name}:{_check_secret(password, name)}"), self._add(name, role)))
        if not self._identities:
            raise ConfigurationError("Credentials needs at least one token or user")

    @classmethod
    def from_file(cls, path: str | Path, *, tokens: Mapping[str, tuple[str, Role | str]] | None = None) -> Self:
        """Read credentials from a TOML file, which others should not be able to read.

            [tokens.deploy]
            token = "…"
            role = "operate"

            [users.kai]
            password = "…"
            role = "admin"

        tokens: further ones. Raises ConfigurationError for a file that cannot be read, or that has anything else in it.
        """
        try:
            read = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError(f"the credentials in {str(path)!r} cannot be read: {error}") from None
        entries = dict(_entries(read.pop("tokens", {}), "tokens", "token"))
        users = dict(_entries(read.pop("users", {}), "users", "password"))
        if read:
            raise ConfigurationError(f"{str(path)!r} may have [tokens.…] and [users.…], not {', '.join(read)}")
        all_tokens = dict(tokens or {})
        for name, (token, role) in entries.items():
            other = all_tokens.setdefault(_check_secret(token, name), (name, role))[0]
            if other != name:
                raise ConfigurationError(f"{name!r} and {other!r} have the same token; give each its own")
        return cls(tokens=all_tokens, users=users)

    def _add(self, name: str, role: Role | str) -> Identity:
        identity = Identity(check_name(name, "the name of a token or user"), parse_role(role))
        if self._identities.setdefault(name, identity) is not identity:
            raise ConfigurationError(f"two tokens or users are called {name!r}; give one of them another name")
        return identity

    @property
    def session_key(self) -> bytes:
        """A key that is the same in each process with these credentials, and another once a secret changes."""
        secrets = sorted(digest for digest, _ in (*self._tokens, *self._users))
        return _session_key(b"".join(secrets))

    def named(self, name: str) -> Identity | None:
        """Return the identity of a name."""
        return self._identities.get(name)

    def of_token(self, token: str) -> Identity | None:
        """Return whose token this is."""
        return _matching(self._tokens, token)

    def of_user(self, name: str, password: str) -> Identity | None:
        """Return the user of this name, if the password is theirs."""
        return _matching(self._users, f"{name}:{password}")

    def __call__(self, request: Request) -> Identity | None:
        """Return who makes a request, by its Authorization header."""
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.of_token(value.strip())
        if scheme.lower() == "basic":
            try:
                name, _, password = b64decode(value, validate=True).decode().partition(":")
            except (binascii.Error, ValueError):
                return None
            return self.of_user(name, password)
        return None


def _matching(known: list[tuple[bytes, Identity]], given: str) -> Identity | None:
    """Return the identity of a secret. All are compared, so that the time does not show which one is nearly right."""
    digest = _digest(given)
    found = None
    for expected, identity in known:
        if hmac.compare_digest(expected, digest):
            found = identity
    return found


@functools.lru_cache(8)
def _session_key(secrets: bytes) -> bytes:
    """Return a key that takes 50 ms to compute: with a quick one, a user who knows all secrets but one
    could try out passwords for the last one on the cookie of a login."""
    return hashlib.scrypt(secrets, salt=b"jobq session", n=2**14, r=8, p=1, dklen=32)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _check_secret(secret: Any, name: str) -> str:
    if not isinstance(secret, str) or len(secret) < MIN_SECRET:
        raise ConfigurationError(f"the secret of {name!r} must be text of at least {MIN_SECRET} characters")
    if secret != secret.strip() or not secret.isprintable():
        raise ConfigurationError(f"the secret of {name!r} must not begin or end with a space, nor hold a line end")
    return secret


def _entries(table: Any, what: str, secret: str) -> Iterator[tuple[str, tuple[str, str]]]:
    if not isinstance(table, dict):
        raise ConfigurationError(f"{what} must be tables, such as [{what}.kai]")
    for name, entry in table.items():
        if not isinstance(entry, dict) or entry.keys() != {secret, "role"}:
            raise ConfigurationError(f"[{what}.{name}] must have {secret} and role, and nothing else")
        yield name, (entry[secret], entry["role"])
