"""The OpenAPI 3.1 document of the API, made from the declarations of its routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

import msgspec
from starlette.responses import Response

from jobq_server.web.api.declaring import ApiRoutes, Described
from jobq_server.web.api.types import Problem
from jobq_server.web.call import Call
from jobq_server.web.paths import API
from jobq_server.web.problems import JSON as PROBLEM
from jobq_server.web.routing import Declared
from jobq_server.web.security.identity import Role

routes = ApiRoutes("document")

TEMPLATE: Final = "#/components/schemas/{name}"
USUAL_ERRORS: Final = (400, 401, 403, 429, 503)
"""Statuses that each route may answer."""
BODY_ERRORS: Final = (413, 415)
PARAMETERS: Final = {
    "id": {"type": "string", "format": "uuid"},
    "request": {"type": "string", "format": "uuid"},
    "name": {"type": "string", "minLength": 1, "maxLength": 255},
}


@routes.get("/openapi.json", access=Role.VIEW, answer=dict[str, Any], name="get_openapi")
async def document(call: Call) -> Response:
    """Return this document."""
    from jobq_server.web.api import ROUTES

    made = make_document(ROUTES, call.url(API))
    return Response(msgspec.json.encode(made), media_type="application/json")


def make_document(declared: Iterable[Declared], server: str) -> dict[str, Any]:
    """Return the document. server: the path under which the API is served."""
    listed = [one for one in declared if isinstance(one.described, Described)]
    types = [kind for one in listed for kind in _types(one.described)]
    schemas, components = msgspec.json.schema_components([*types, Problem], ref_template=TEMPLATE)
    by_type = {id(kind): schema for kind, schema in zip([*types, Problem], schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for one in listed:
        path = re.sub(r"\{(\w+)(:\w+)?\}", r"{\1}", one.path.removeprefix(API))
        paths.setdefault(path, {})[one.method.lower()] = _operation(one, by_type, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "jobq",
            "version": version("jobq-server"),
            "description": "Add jobs, wait for them and follow them; find and change them; see queues and workers.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": server}],
        "security": [{"token": []}, {"password": []}],
        "tags": [{"name": name} for name in sorted({one.described.tag for one in listed})],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic"},
            },
        },
    }


def _types(described: Described) -> Iterator[Any]:
    yield from (kind for kind in (described.query, described.body) if kind is not None)
    yield from described.answers.values()


def _operation(one: Declared, schemas: dict[int, Any], components: dict[str, Any]) -> dict[str, Any]:
    described: Described = one.described
    errors = {*USUAL_ERRORS, *described.errors, *(BODY_ERRORS if described.body is not None else ())}
    if described.query is None and described.body is None and "{" not in one.path:
        errors.discard(400)
    problem = {"content": {PROBLEM: {"schema": schemas[id(Problem)]}}}
    made: dict[str, Any] = {
        "operationId": described.name,
        "summary": described.summary,
        "description": f"{described.details} Needs the role `{one.access}`.".strip(),
        "tags": [described.tag],
        "parameters": [*_path_parameters(one.path), *_query_parameters(described, schemas, components)],
        "responses": {
            **_answers(described, schemas),
            **{str(status): {"description": HTTPStatus(status).phrase, **problem} for status in sorted(errors)},
        },
    }
    if described.body is not None:
        made["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[id(described.body)]}},
        }
    return made


def _answers(described: Described, schemas: dict[int, Any]) -> dict[str, Any]:
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {described.media_type: {"schema": schemas[id(kind)]}},
        }
        for status, kind in described.answers.items()
    }


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": PARAMETERS[name]}
        for name, _ in re.findall(r"\{(\w+)(:\w+)?\}", path)
    ]


def _query_parameters(described: Described, schemas: dict[int, Any], components: dict[str, Any]) -> list[Any]:
    if described.query is None:
        return []
    name = schemas[id(described.query)]["$ref"].rpartition("/")[2]
    schema = components[name]
    return [
        {"name": field, "in": "query", "required": field in schema.get("required", ()), "schema": _given(part)}
        for field, part in schema["properties"].items()
    ]


def _given(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter that is given: in an address there is no null."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if not options:
        return {key: value for key, value in schema.items() if key != "default" or value is not None}
    return dict(options[0]) if len(options) == 1 else {"anyOf": options}
