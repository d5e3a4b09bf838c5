"""What a storage is told about where its database is: URLs and key=value strings, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

from jobq_core.errors import ConfigurationError

OPTIONS: Final = ("schema", "pool_size", "time_limit", "prepared", "listen_dsn")
"""What a URL may say in its query beside libpq's own parameters."""

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
    except psycopg.ProgrammingError:
        given = None
    if given is None:
        raise ConfigurationError(
            "the DSN is neither a URL (postgresql://user@host/database) nor key=value pairs (host=… dbname=…) "
            "that libpq takes"
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
