"""`WebOptions`: where and to whom a server shows its dashboard and its HTTP API. Loads nothing of the web."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, Final

import attrs

from jobq_core.checks import check_count
from jobq_core.errors import ConfigurationError
from jobq_core.reprs import short_repr

LOCAL: Final = "127.0.0.1"


def _port(value: Any) -> int:
    return check_count(value, "port of the web", least=0, most=65_535)


def _texts(value: Iterable[str] | None) -> tuple[str, ...] | None:
    if isinstance(value, str):
        raise ConfigurationError(f"expected a list of texts, as in [{value!r}], not {short_repr(value)}")
    return None if value is None else tuple(value)


def _roles(value: Iterable[str]) -> tuple[str, ...]:
    return _texts(value) or ()


@attrs.frozen(kw_only=True)
class WebOptions:
    """The dashboard and the HTTP API of a server: `JobQueueServer(storage, jobs=[…], web=WebOptions(port=8080))`.

    Raises ConfigurationError for an option that cannot work, and for an address that others can reach without `auth`.
    """

    port: int = attrs.field(converter=_port)
    """The port to listen on; 0 for any free one."""

    host: str = LOCAL
    """The address to listen on (default 127.0.0.1: this machine alone)."""

    auth: Any = None
    """Who makes a request: `jobq_server.web.Credentials`, or a function, or several, as `create_app` takes it (default:
    everyone on this machine, as an admin)."""

    hide_payloads: tuple[str, ...] = attrs.field(default=(), converter=_roles)
    """The roles that do not see arguments, results and messages of errors (default: none)."""

    allowed_hosts: tuple[str, ...] | None = attrs.field(default=None, converter=_texts)
    """The names by which browsers reach it; '*' for all (default: all with `auth`, else localhost)."""

    root_path: str = ""
    """The part of the path that a proxy in front removes (default: none)."""

    title: str = "jobq"
    """What the pages are called."""

    insecure_no_auth: bool = False
    """Whether everyone may do everything, from any address, without `auth` (default False)."""

    def __attrs_post_init__(self) -> None:
        if self.auth is None and not self.insecure_no_auth and not _is_local(self.host):
            raise ConfigurationError(
                f"others can reach the address {self.host}, and there is no authentication: give the web credentials "
                "(--web-credentials FILE, or auth=…), let it listen on 127.0.0.1, or allow everyone everything with "
                "--insecure-no-auth"
            )


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_web(value: Any) -> WebOptions | None:
    """Return WebOptions, or None; raises ConfigurationError for anything else."""
    if value is None or isinstance(value, WebOptions):
        return value
    raise ConfigurationError(f"web must be WebOptions, such as WebOptions(port=8080), or None, not {short_repr(value)}")
