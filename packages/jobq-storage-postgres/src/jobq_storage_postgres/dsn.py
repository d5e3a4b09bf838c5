"""DSNs: URLs and key=value strings, how they are read, and how they are shown."""

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
"""jobq's own options in the query of a URL, beside libpq's parameters."""

_PORTS: Final = range(1, 65536)

_SECRET: Final = frozenset(
    {"password", "passfile", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
)


def split(url: str) -> tuple[str, dict[str, str]]:
    """Split a URL into the DSN for libpq and jobq's own options; a key=value string has no options."""
    head, mark, query = url.partition("?")
    if not mark or "://" not in head:
        return url, {}
    pairs = parse_qsl(query, keep_blank_values=True)
    options = {key: value for key, value in pairs if key in OPTIONS}
    rest = [(key, value) for key, value in pairs if key not in OPTIONS]
    return head + ("?" + urlencode(rest, quote_via=quote) if rest else ""), options


def parse(dsn: str, time_limit: float) -> dict[str, Any]:
    """Return the connection parameters of a DSN, with timeouts that recognise a dead network.

    time_limit: in seconds. Raises ConfigurationError, which does not repeat the DSN, as it may contain a password.
    """
    try:
        given = conninfo_to_dict(dsn)
    except (psycopg.ProgrammingError, UnicodeError):  # %de is half a character
        given = None
    if given is None:
        raise ConfigurationError(
            _misspelt(dsn)
            or "the DSN is neither a URL (postgresql://user@host/database) nor key=value pairs (host=… dbname=…) "
            "that libpq takes; write special characters in a password as %40 and the like"
        )
    # libpq would report a wrong port like a server that cannot be reached, and the call would be repeated.
    ports = str(given.get("port", "")).split(",")
    if not all(re.fullmatch(r"\d{0,5}", port, re.ASCII) and int(port or 1) in _PORTS for port in ports):
        raise ConfigurationError(
            "the DSN's port must be a number from 1 to 65535; write a / or @ in a password as %2F or %40"
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
    """Name an option of a URL that does not exist, and the one that may be meant. Values are not repeated."""
    if "://" not in dsn:
        return None
    import difflib  # rarely needed

    known = sorted({option.keyword.decode() for option in Conninfo.get_defaults()} | set(OPTIONS) | {"ssl"})
    for key, _ in parse_qsl(dsn.partition("?")[2], keep_blank_values=True):
        if key not in known and re.fullmatch(r"\w{1,40}", key):
            like = difflib.get_close_matches(key, known, 1)
            return f"unknown option {key!r} in a PostgreSQL URL" + (f"; did you mean {like[0]!r}?" if like else "")
    return None


def show(dsn: str, schema: str) -> str:
    """Return the URL of a DSN without its secrets."""
    given: Mapping[str, Any] = {key: value for key, value in conninfo_to_dict(dsn).items() if value is not None}
    host, port = str(given.get("host", "")), str(given.get("port", ""))
    query = {key: str(value) for key, value in given.items() if key not in {*_SECRET, "user", "dbname"}}
    user = quote(str(given["user"]), safe="") + "@" if "user" in given else ""
    address = ""
    if host and not host.startswith(("/", "@")) and "," not in host:
        address = f"[{host}]" if ":" in host else quote(host, safe="")
        query.pop("host")
        if port and "," not in port:
            address += f":{port}"
            query.pop("port")
    if schema != "jobq":
        query["schema"] = schema
    shown = f"postgresql://{user}{address}/{quote(str(given.get('dbname', '')), safe='')}"
    return shown + ("?" + urlencode(query, safe="/,", quote_via=quote) if query else "")
