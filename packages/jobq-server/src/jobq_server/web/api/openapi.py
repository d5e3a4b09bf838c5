"""The OpenAPI 3.1 document of the API, made from the declarations of its routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final
from uuid import UUID

import msgspec
from starlette.responses import Response

from jobq_server.web.api.declaring import ApiRoutes, Described
from jobq_server.web.api.types import JobEvent, Name, Problem
from jobq_server.web.call import Call
from jobq_server.web.paths import API
from jobq_server.web.problems import JSON as PROBLEM
from jobq_server.web.routing import Declared
from jobq_server.web.security.identity import Role

routes = ApiRoutes("document")

TEMPLATE: Final = "#/components/schemas/{name}"
DESCRIPTION: Final = (
    "Add jobs, wait for them and follow them; find and change them; see queues and workers. "
    "Answers may get further fields in later versions."
)
USUAL_ERRORS: Final = (400, 401, 403, 414, 421, 429, 500, 503)
"""Statuses that each route may answer."""
BODY_ERRORS: Final = (413, 415)
ERRORS: Final = {
    400: "A parameter, or the body, is not valid.",
    401: "No credentials.",
    403: "The role may not do this.",
    404: "No such job, worker, queue or operation.",
    409: "Another transaction holds the unique key.",
    413: "The body is too large.",
    414: "The address is too long.",
    415: "The body is not JSON.",
    421: "The host name is not allowed.",
    429: "Too many wrong credentials, or too many streams of one client.",
    500: "An unexpected error; the log of the server has it.",
    503: "The storage is unavailable, or too many streams are open.",
}
RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds to wait.", "required": True, "schema": {"type": "integer", "minimum": 0}}
}
ERROR_HEADERS: Final[Mapping[int, Any]] = {
    401: {
        "WWW-Authenticate": {
            "description": "The kinds of credentials that are taken.",
            "required": True,
            "schema": {"type": "string"},
        }
    },
    429: RETRY_AFTER,
    503: RETRY_AFTER,
}
PARAMETERS: Final[Mapping[str, Any]] = {"id": UUID, "request": UUID, "name": Name}
"""The types of the parts of a path."""


@routes.get("/openapi.json", access=Role.VIEW, answer=dict[str, Any], name="get_openapi")
async def document(call: Call) -> Response:
    """Return this document."""
    from jobq_server.web.api import ROUTES

    made = make_document(ROUTES, call.url(API))
    return Response(msgspec.json.encode(made), media_type="application/json")


def make_document(declared: Iterable[Declared], server: str) -> dict[str, Any]:
    """Return the document. server: the path under which the API is served."""
    listed = [one for one in declared if isinstance(one.described, Described)]
    queries = [one.described.query for one in listed if one.described.query is not None]
    bodies = [one.described.body for one in listed if one.described.body is not None]
    types = [*queries, *bodies, *(kind for one in listed for kind in one.described.answers.values()), Problem, JobEvent]
    made, components = msgspec.json.schema_components(types, ref_template=TEMPLATE)
    schemas = {id(kind): schema for kind, schema in zip(types, made, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for one in listed:
        path = re.sub(r"\{(\w+)(:\w+)?\}", r"{\1}", one.path.removeprefix(API))
        paths.setdefault(path, {})[one.method.lower()] = _operation(one, schemas, components)
    for query in queries:  # they are in the document as parameters
        components.pop(query.__name__, None)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "jobq",
            "version": version("jobq-server"),
            "description": DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": server}],
        "security": [{"token": []}, {"password": []}],
        "tags": [{"name": name} for name in sorted({one.described.tag for one in listed})],
        "paths": paths,
        "components": {
            "schemas": {name: _without_defaults(schema) for name, schema in sorted(components.items())},
            "responses": {f"Problem{status}": _problem(status, schemas) for status in ERRORS},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic"},
            },
        },
    }


def _operation(one: Declared, schemas: dict[int, Any], components: dict[str, Any]) -> dict[str, Any]:
    described: Described = one.described
    errors = {*USUAL_ERRORS, *described.errors, *(BODY_ERRORS if described.body is not None else ())}
    made: dict[str, Any] = {
        "operationId": described.name,
        "summary": described.summary,
        "description": f"{described.details} Needs the role `{one.access}`.".strip(),
        "tags": [described.tag],
        "parameters": [*_path_parameters(one.path), *_query_parameters(described, schemas, components)],
        "responses": {
            **_answers(described, schemas),
            **{str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in sorted(errors)},
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


def _problem(status: int, schemas: dict[int, Any]) -> dict[str, Any]:
    made = {"description": ERRORS[status], "content": {PROBLEM: {"schema": schemas[id(Problem)]}}}
    return made | ({"headers": ERROR_HEADERS[status]} if status in ERROR_HEADERS else {})


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": msgspec.json.schema(PARAMETERS[name])}
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


def _without_defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a body without the defaults of its fields: generators of clients take such a field for one
    that is always there. Its description names them."""
    fields = schema.get("properties", {})
    bare = {name: {key: value for key, value in part.items() if key != "default"} for name, part in fields.items()}
    return {**schema, "properties": bare} if fields else schema
