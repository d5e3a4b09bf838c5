"""`View` and `render`: pages from the templates, all of them escaped."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from starlette.requests import Request
from starlette.types import Scope

from jobq_server.web.charts.svg import CHARTS
from jobq_server.web.formatting import FILTERS, STATES
from jobq_server.web.links import link
from jobq_server.web.notices import read_notice
from jobq_server.web.paths import base_of, path_of
from jobq_server.web.security.identity import Role

FOLDER: Final = Path(__file__).parent
THEME_COOKIE: Final = "jobq_theme"
THEMES: Final = ("light", "dark")
LIVE: Final = "live_"
"""What the names of the blocks begin with that a page renews while it is open."""

PAGES: Final = (
    ("/", "Overview"),
    ("/jobs", "Jobs"),
    ("/failed", "Failed"),
    ("/workers", "Workers"),
    ("/limits", "Limits"),
    ("/operations", "Operations"),
    ("/audit", "Audit"),
    ("/doctor", "Doctor"),
    ("/settings", "Settings"),
)


@attrs.frozen
class View:
    """A page: the template, and what it shows."""

    template: str
    context: Mapping[str, Any] = attrs.field(factory=dict)
    status: int = 200

    def render(self, scope: Scope) -> str:
        """Return the page as HTML."""
        return render(self.template, scope, **self.context)

    def render_live(self, scope: Scope) -> dict[str, str]:
        """Return the HTML of the parts that are renewed, by id."""
        template = _environment().get_template(self.template)
        context = {**base_context(scope), **self.context}
        return {
            name: "".join(block(template.new_context(context)))
            for name, block in _blocks(template).items()
            if name.startswith(LIVE)
        }


def _blocks(template: Template) -> dict[str, Any]:
    return dict(template.blocks)


def render(template: str, scope: Scope, **context: Any) -> str:
    """Return a page as HTML."""
    return _environment().get_template(template).render({**base_context(scope), **context})


def base_context(scope: Scope) -> dict[str, Any]:
    """Return what each page shows."""
    web = scope["app"].state.web
    identity = scope.get("state", {}).get("identity")
    request = Request(scope)
    theme = request.cookies.get(THEME_COOKIE)
    query = scope["query_string"].decode("latin-1")
    return {
        "app_title": web.title,
        "base": base_of(scope),
        "here": path_of(scope) or "/",
        "here_query": f"?{query}" if query else "",
        "identity": identity,
        "link": functools.partial(link, base_of(scope)),
        "may_operate": identity is not None and identity.role.covers(Role.OPERATE),
        "may_admin": identity is not None and identity.role.covers(Role.ADMIN),
        "notice": read_notice(request.query_params.get("did", "")),
        "pages": PAGES,
        "logged_in_here": web.sessions is not None and identity is not None,
        "theme": theme if theme in THEMES else "",
        "version": assets_version(),
    }


@functools.cache
def assets_version() -> str:
    """Return a text that is another for other static files."""
    digest = hashlib.sha256()
    for path in sorted((FOLDER / "static").iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    shared: dict[str, Any] = environment.globals  # pyright: ignore[reportAssignmentType]
    shared.update(CHARTS)
    shared.update(states=STATES)
    # Blocks that are rendered alone do not see what a template imports.
    shared["ui"] = environment.get_template("macros.html").module
    return environment
