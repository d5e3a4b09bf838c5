"""`Settings`: where a storage's tables are, and how it connects to them; checked when the storage is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from msgspec import Struct

from jobq_core.checks import check_bool, is_number
from jobq_core.encoding import is_unicode
from jobq_core.errors import ConfigurationError
from jobq_core.reprs import short_repr
from jobq_storage_postgres import dsn as _dsn
from jobq_storage_postgres.address import Address, Password
from jobq_storage_postgres.sql import check_schema


class Settings(Struct, frozen=True, kw_only=True):
    """Checked settings. The fields are as `PostgresQueueStorage` documents them; url is without secrets."""

    schema: str
    url: str
    address: Address
    listen_address: Address
    pool_size: int
    time_limit: float
    prepared: bool | None

    @property
    def channel(self) -> str:
        """The channel of NOTIFY and LISTEN."""
        return f"jobq_{self.schema}"

    @classmethod
    def read(
        cls,
        dsn: str,
        *,
        schema: str | None,
        listen_dsn: str | None,
        pool_size: int | None,
        time_limit: float | None,
        password: Password | None,
        prepared: bool | None,
    ) -> Self:
        """Check what was given, and complete it from the DSN. Raises ConfigurationError."""
        for text in (dsn, *(() if listen_dsn is None else (listen_dsn,))):
            if not isinstance(text, str):
                # Not shown: it may contain a password.
                raise ConfigurationError(f"a DSN must be text, such as postgresql://host/database, not {type(text)}")
            if not is_unicode(text):
                raise ConfigurationError("a DSN must be valid Unicode; this one has a lone surrogate")
        bare, options = _dsn.split(dsn)
        checked_schema = check_schema(options.get("schema", "jobq") if schema is None else schema)
        limit = _number("time_limit", time_limit, options, 30.0)
        size = _number("pool_size", pool_size, options, 10)
        if not is_number(limit) or not 0.1 <= limit <= 3600:
            raise ConfigurationError(f"time_limit must be from 0.1 to 3600 seconds, not {short_repr(limit)}")
        if not is_number(size) or not 1 <= size <= 10_000 or size != int(size):
            raise ConfigurationError(f"pool_size must be a whole number from 1 to 10000, not {short_repr(size)}")
        if prepared is None and "prepared" in options:
            prepared = _bool(options["prepared"])
        if prepared is not None:
            check_bool(prepared, "prepared")
        if password is not None and not callable(password):
            # Not shown: it may be the password itself.
            raise ConfigurationError("password must be a function that returns the password; a DSN may contain one")
        address = Address(_dsn.parse(bare, limit), password)
        listen = listen_dsn or options.get("listen_dsn")
        return cls(
            schema=checked_schema,
            url=_dsn.show(bare, checked_schema),
            address=address,
            listen_address=address if listen is None else Address(_dsn.parse(listen, limit), password),
            pool_size=int(size),
            time_limit=limit,
            prepared=prepared,
        )


def _number(name: str, given: float | None, options: Mapping[str, str], default: float) -> float:
    if given is not None:
        return given
    if name not in options:
        return default
    try:
        return float(options[name])
    except ValueError:
        # The value is not repeated: in a URL that lacks a & it may contain a password.
        raise ConfigurationError(f"{name} must be a number") from None


def _bool(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ConfigurationError("prepared must be true or false")
