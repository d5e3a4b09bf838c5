"""What a storage is told about where its database is: URLs and key=value strings, and how they are shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from jobq_core.errors import ConfigurationError

OPTIONS: Final = ("schema", "pool_size", "time_limit", "prepared", "listen_dsn")
"""What a URL may say in its query beside libpq's own parameters."""

_PORTS: Final = range(1, 65536)

_SECRET: Final = frozenset(
    {"password", "passfile", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
)


def split(url: str) -> tuple[str, dict[str, str]]:
    """Take our own options off a URL; a key=value string has none."""
    head, mark, query = url.partition("?")
    if not mark or "://" not in head:
        return url, {}
    pairs = parse_qsl(query, keep_blank_values=True)
    options = {key: value for key, value in pairs if key in OPTIONS}
    rest = [(key, value) for key, value in pairs if key not in OPTIONS]
    return head + ("?" + urlencode(rest, quote_via=quote) if rest else ""), options


def parse(dsn: str, time_limit: float) -> dict[str, Any]:
    """Return the connection parameters of a DSN, with what keeps a dead network from being waited for.

    Raises ConfigurationError, which does not repeat the DSN: a password may be in it.
    """
    try:
        given = conninfo_to_dict(dsn)
    except (psycopg.ProgrammingError, UnicodeError):  # %de is half a character
        given = None
    if given is None:
        raise ConfigurationError(
            _misspelt(dsn)
            or "the DSN is neither a URL (postgresql://user@host/database) nor key=value pairs (host=… dbname=…) "
            "that libpq takes; special characters in a password are written as %40 and the like"
        )
    # Said here, since libpq would take a wrong one for a server that cannot be reached now, and tried again.
    ports = str(given.get("port", "")).split(",")
    if not all(re.fullmatch(r"\d{0,5}", port, re.ASCII) and int(port or 1) in _PORTS for port in ports):
        raise ConfigurationError(
            "the DSN's port is no number from 1 to 65535; a / or @ in a password is to be written as %2F or %40"
        )
    limit = max(1000, round(time_limit * 1000))
    return {
        "connect_timeout": max(2, round(min(time_limit, 10))),
        "keepalives": 1,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": limit,
        "application_name": "jobq",
        **{key: value for key, value in given.items() if value is not None},
        "client_encoding": "utf8",
    }


def _misspelt(dsn: str) -> str | None:
    """Say which option of a URL there is none of; only its name, and what it may be meant for."""
    if "://" not in dsn:
        return None
    import difflib  # whoever spells it right need not load it

    known = sorted({option.keyword.decode() for option in Conninfo.get_defaults()} | set(OPTIONS) | {"ssl"})
    for key, _ in parse_qsl(dsn.partition("?")[2], keep_blank_values=True):
        if key not in known and re.fullmatch(r"\w{1,40}", key):
            like = difflib.get_close_matches(key, known, 1)
            return f"a PostgreSQL URL has no option {key!r}" + (f"; is {like[0]!r} meant?" if like else "")
    return None


def show(dsn: str, schema: str) -> str:
    """Write the URL of a DSN without its secrets."""
    given: Mapping[str, Any] = {key: value for key, value in conninfo_to_dict(dsn).items() if value is not None}
    host, port = str(given.get("host", "")), str(given.get("port", ""))
    query = {key: str(value) for key, value in given.items() if key not in {*_SECRET, "user", "dbname"}}
    user = quote(str(given["user"]), safe="") + "@" if "user" in given else ""
    place = ""
    if host and not host.startswith(("/", "@")) and "," not in host:
        place = f"[{host}]" if ":" in host else quote(host, safe="")
        query.pop("host")
        if port and "," not in port:
            place += f":{port}"
            query.pop("port")
    if schema != "jobq":
        query["schema"] = schema
    shown = f"postgresql://{user}{place}/{quote(str(given.get('dbname', '')), safe='')}"
    return shown + ("?" + urlencode(query, safe="/,", quote_via=quote) if query else "")
