"""`ApiRoutes`: routes of the API, each with its role and with the types of what it takes and answers.

    @api.post("/jobs", access=Role.OPERATE, body=NewJobBody, answer=AddedView, status=201)
    async def add(call: Call, body: NewJobBody) -> AddedView:
        \"\"\"Add a job.\"\"\"

The types are msgspec's: a request is checked against them, and the OpenAPI document is made from them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from types import UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin

import attrs
import msgspec
from msgspec import Struct
from starlette.responses import Response

from jobq_server.web.call import Call
from jobq_server.web.paths import API
from jobq_server.web.problems import Problem
from jobq_server.web.routing import REQUEST_SECONDS, Access, Routes

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

JSON: Final = "application/json"
NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL character in JSON, and not a backslash before the text u0000."""


class NoQuery(Struct, forbid_unknown_fields=True):
    """The parameters of a route that takes none."""


@attrs.frozen(kw_only=True)
class Described:
    """What the API's document says of a route.

    query, body: their types; None for none. answers: the type of each successful status. errors: the other statuses,
    beside those that each route may have. media_type: of the answers.
    """

    name: str
    summary: str
    details: str
    tag: str
    query: type[Struct] | None
    body: type[Struct] | None
    answers: Mapping[int, Any]
    errors: tuple[int, ...]
    media_type: str = JSON


class ApiRoutes(Routes):
    """The routes of one part of the API. tag: what the document calls the part."""

    def __init__(self, tag: str) -> None:
        super().__init__(API)
        self._tag = tag

    def add(
        self,
        method: str,
        path: str,
        *,
        access: Access,
        query: type[Struct] | None = None,
        body: type[Struct] | None = None,
        answer: Any = None,
        status: int = 200,
        also: Mapping[int, Any] | None = None,
        errors: tuple[int, ...] = (),
        media_type: str = JSON,
        seconds: float = REQUEST_SECONDS,
        **options: Any,
    ) -> Callable[[F], F]:
        """Decorate the function that answers: it takes the Call, then the query and the body, where there are any.

        answer: the type of what it returns, sent with `status`. also: the types of other successful statuses.
        """

        def declare(function: F) -> F:
            summary, _, details = inspect.cleandoc(function.__doc__ or "").partition("\n\n")

            async def endpoint(call: Call) -> Any:
                given: list[Any] = []
                asked = read_query(call, query or NoQuery)
                if query is not None:
                    given.append(asked)
                if body is not None:
                    given.append(await read_body(call, body))
                answered = await function(call, *given)
                if answered is None or isinstance(answered, Response):
                    return answered
                return Response(msgspec.json.encode(answered), status, media_type=JSON)

            described = Described(
                name=options.get("name", function.__name__.rstrip("_")),
                summary=" ".join(summary.split()).rstrip("."),
                details=" ".join(details.split()),
                tag=self._tag,
                query=query,
                body=body,
                answers={status: answer, **(also or {})},
                errors=errors,
                media_type=media_type,
            )
            super(ApiRoutes, self).add(method, path, access=access, described=described, seconds=seconds)(endpoint)
            return function

        return declare


def read_query(call: Call, kind: type[Struct]) -> Any:
    """Return the parameters of the query. Raises Problem, and msgspec.ValidationError."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    given: dict[str, Any] = {}
    for name, value in call.request.query_params.multi_items():
        if getattr(fields.get(name), "__origin__", None) is list:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise Problem(400, f"the parameter {name[:80]!r} is given twice")
        else:
            given[name] = _number(value) if _takes_number(fields.get(name)) else value
    return _without_nul(msgspec.convert(given, kind))


def _takes_number(kind: Any) -> bool:
    """Whether a parameter is a number. kind: its type, such as Annotated[int, …] or float | None."""
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return any(getattr(option, "__origin__", option) in (int, float) for option in options)


def _number(text: str) -> int | float | str:
    """Return a number that is given as text, or any other text as it is.

    Not left to `convert(strict=False)`, which takes the text null for no value, and numbers for moments.
    """
    try:
        return msgspec.json.decode(text, type=int | float)
    except msgspec.MsgspecError:
        return text


async def read_body(call: Call, kind: type[Struct]) -> Any:
    """Return the body. Raises Problem for another type than JSON, and msgspec.ValidationError."""
    sent = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent != JSON:
        raise Problem(415, f"expected a body of the type {JSON}")
    body = await call.request.body()
    try:
        return _without_nul(msgspec.json.decode(body, type=kind))
    except RecursionError:
        raise Problem(400, "the body is nested too deeply") from None


def _without_nul(given: Any) -> Any:
    """Return what was given. Raises Problem for a NUL character, which no database keeps in text."""
    if NUL.search(msgspec.json.encode(given)):
        raise Problem(400, "a text holds a NUL character (\\u0000), which cannot be stored")
    return given
