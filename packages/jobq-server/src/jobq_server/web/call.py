"""`Call`: one request, as the functions of pages and API see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl
from uuid import UUID

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse

from jobq_core.errors import JobNotFoundError
from jobq_core.storage import QueueStorage
from jobq_server.web.paths import base_of, is_local
from jobq_server.web.problems import Problem
from jobq_server.web.security.identity import NOBODY, Identity, Role

if TYPE_CHECKING:
    from jobq_server.web.state import Web

MAX_FIELDS: Final = 2_000
"""Fields of a form: the jobs of a page that are selected, and what is done with them."""


class Call:
    """A request, who makes it, and the application that answers it."""

    def __init__(self, request: Request, identity: Identity | None) -> None:
        self.request = request
        self.identity = identity or NOBODY
        self.web: Web = request.app.state.web

    @property
    def storage(self) -> QueueStorage:
        """The storage."""
        return self.web.storage

    @property
    def actor(self) -> str:
        """Who acts, as the audit shows it."""
        return self.identity.name

    @property
    def client(self) -> str:
        """Who has a share of the streams: an identity, or without authentication an address."""
        if self.identity is not NOBODY:
            return self.identity.name
        return self.request.client.host if self.request.client else "this client"

    def path(self, name: str) -> str:
        """Return a part of the path."""
        return str(self.request.path_params[name])

    def path_id(self, name: str = "id") -> UUID:
        """Return the id in the path. Raises JobNotFoundError for any other text."""
        try:
            return UUID(self.path(name))
        except ValueError:
            raise JobNotFoundError(f"{self.path(name)!r} is not an id") from None

    def query(self, name: str, default: str = "") -> str:
        """Return a parameter of the query, without the spaces around it."""
        return self.request.query_params.get(name, default).strip()

    def may(self, role: Role) -> bool:
        """Whether who makes the request may do what a role may."""
        return self.identity.role.covers(role)

    def require(self, role: Role) -> None:
        """Raise Problem unless who makes the request may do what a role may."""
        if not self.may(role):
            raise Problem(403, f"this needs the role {role.value!r}; {self.actor} has {self.identity.role.value!r}")

    async def form(self) -> FormData:
        """Return the fields of a form that a page of ours sent. Raises Problem for another kind of body."""
        kind = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise Problem(415, "expected a form (application/x-www-form-urlencoded)")
        try:
            text = (await self.request.body()).decode("ascii")
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
        except ValueError:
            raise Problem(400, f"the form cannot be read, or has more than {MAX_FIELDS} fields") from None
        return FormData([(name, value) for name, value in pairs])

    def url(self, path: str) -> str:
        """Return the address of a path of the application."""
        return base_of(self.request.scope) + path

    def redirect(self, path: str) -> RedirectResponse:
        """Return a redirection to a path of the application, after a form."""
        return RedirectResponse(self.url(path if is_local(path) else "/"), 303)
