"""`Problem`: a refusal with its status, shown as a page to browsers and as problem+json (RFC 9457) to programs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec
from starlette.responses import Response
from starlette.types import Scope

from jobq_core.errors import (
    ClosedError,
    ConfigurationError,
    InvalidJobError,
    JobNotFoundError,
    JobQueueError,
    JobStateError,
    StorageUnavailableError,
    UnfitArgumentsError,
    UniqueKeyBusyError,
    WaitTimeoutError,
)
from jobq_server.web.paths import is_api
from jobq_server.web.rendering import render

JSON: Final = "application/problem+json"

_STATUSES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (JobNotFoundError, 404),
    (InvalidJobError, 400),
    (UnfitArgumentsError, 400),
    (JobStateError, 409),
    (UniqueKeyBusyError, 409),
    (WaitTimeoutError, 504),
    (StorageUnavailableError, 503),
    (ClosedError, 503),
    (ConfigurationError, 400),
    (msgspec.MsgspecError, 400),
)


class Problem(Exception):  # noqa: N818 - what RFC 9457 calls it
    """A request that is refused.

    status: of HTTP. detail: one sentence that says why, and what helps. retry_after: seconds.
    """

    def __init__(self, status: int, detail: str, *, retry_after: int | None = None, challenge: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self._headers = {} if retry_after is None else {"retry-after": str(retry_after)}
        if challenge:
            self._headers["www-authenticate"] = challenge

    @property
    def title(self) -> str:
        """The standard words for the status."""
        return HTTPStatus(self.status).phrase

    def response(self, scope: Scope) -> Response:
        """Return the answer to a request."""
        if is_api(scope):
            said = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
            return Response(msgspec.json.encode(said), self.status, self._headers, JSON)
        return Response(render("problem.html", scope, problem=self), self.status, self._headers, "text/html")


def problem_of(error: Exception) -> Problem | None:
    """Return the problem that an error of jobq, or of reading a request, stands for; None for any other."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RecursionError):
        return Problem(400, "the JSON is nested too deeply")
    if isinstance(error, (JobQueueError, msgspec.MsgspecError)):
        status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
        return Problem(status, str(error), retry_after=5 if status == 503 else None)
    return None
