"""The list of jobs: filters in the address, a page at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from attrs import evolve
from starlette.responses import Response

from jobq_core.errors import InvalidJobError
from jobq_core.masking import USUAL_NAMES
from jobq_core.records import JobSummary, WorkerRecord
from jobq_core.states import JobState
from jobq_core.storage import JobFilter, QueueStorage
from jobq_server.web.actions import ACTIONS
from jobq_server.web.call import Call
from jobq_server.web.filters import describe, names_of, parse_filter, parse_uuid, to_pairs, to_query
from jobq_server.web.links import link
from jobq_server.web.problems import Problem
from jobq_server.web.rendering import View
from jobq_server.web.routing import Routes
from jobq_server.web.security.identity import Role

routes = Routes()

PAGE_SIZES: Final = (25, 50, 100, 200)
SEARCHES: Final = {
    "tag": "Tag",
    "argument": "Argument (name=value)",
    "error": "Error message",
    "error_type": "Error type",
    "run": "Run",
    "worker": "Worker id",
    "parent": "Added by the job",
}
"""What the search field can look in, beside ids."""
SUGGESTED: Final = 200
"""Values that a field suggests at most."""


@routes.get("/jobs", access=Role.VIEW)
async def jobs(call: Call) -> View | Response:
    """Show the jobs that match, newest first; go to the job of an id that was searched for."""
    if call.query("q"):
        return _search(call)
    storage = call.storage
    wanted = parse_filter(call.request.query_params, await storage.now())
    check_may_search(call, wanted)
    limit = page_size(call)
    after = parse_uuid(call.query("after"), "after") if call.query("after") else None
    page = await storage.find(wanted, after=after, limit=limit)
    tabs = await count_states(storage, wanted.queue)
    workers = await storage.workers()
    return View(
        "jobs.html",
        {
            "filter": wanted,
            "filter_query": to_query(wanted),
            "filter_pairs": to_pairs(wanted),
            "filter_text": describe(wanted),
            "chips": chips(wanted),
            "hidden": call.web.payloads.hides(call.identity),
            "known": known_values(page.jobs, workers, tabs.queues),
            "limit": limit,
            "page": page,
            "page_sizes": PAGE_SIZES,
            "searches": SEARCHES,
            "searched": not page.jobs and page.cursor is not None,
            "storage_now": await storage.now(),
            "tabs": tabs,
            "actions": [info for info in ACTIONS.values() if call.may(info.role)],
            "after": after,
        },
    )


def known_values(
    jobs: Sequence[JobSummary], workers: Sequence[WorkerRecord], queues: Iterable[str]
) -> dict[str, dict[str, str]]:
    """Return what the fields suggest, by condition: values with their labels. It is known from what the page reads."""
    names: dict[str, Iterable[str]] = {
        "queue": [*queues, *(queue for worker in workers for queue in worker.info.queues)],
        "kind": [*(job.kind for job in jobs), *(kind for worker in workers for kind in worker.info.kinds)],
        "tag": [tag for job in jobs for tag in job.tags],
        "run": [job.run_id for job in jobs if job.run_id is not None],
        "error_type": [job.error.type for job in jobs if job.error is not None],
    }
    known = {name: dict.fromkeys(names_of(values, SUGGESTED), "") for name, values in names.items()}
    return {**known, "worker": {str(worker.info.id): worker.info.name for worker in workers[:SUGGESTED]}}


def check_may_search(call: Call, wanted: JobFilter) -> None:
    """Raise Problem for a search in what this role does not see: its answers would show it."""
    if (wanted.argument is not None or wanted.error is not None) and call.web.payloads.hides(call.identity):
        raise Problem(403, f"the role {call.identity.role.value!r} does not see payloads, and cannot search in them")
    if wanted.argument is not None and _is_secret(call, wanted.argument[0]):
        raise Problem(403, f"the argument {wanted.argument[0]!r} is secret, and cannot be searched for")


def _is_secret(call: Call, argument: str) -> bool:
    """Whether an argument is named as secrets are, or any declared job holds a Secret in one of this name."""
    return USUAL_NAMES.fullmatch(argument) is not None or any(
        argument in definition.secrets for definition in call.web.registry
    )


def page_size(call: Call) -> int:
    """Return the number of jobs of a page."""
    text = call.query("limit", str(PAGE_SIZES[1]))
    if not text.isdecimal() or len(text) > 3 or not 1 <= int(text) <= PAGE_SIZES[-1]:
        raise InvalidJobError(f"limit must be a whole number from 1 to {PAGE_SIZES[-1]}")
    return int(text)


class Tabs(dict[JobState, int]):
    """The number of jobs by state, in one queue or all. queues: all that have jobs."""

    queues: Iterable[str] = ()


async def count_states(storage: QueueStorage, queue: str | None) -> Tabs:
    """Return the number of jobs by state."""
    tabs = Tabs(dict.fromkeys(JobState, 0))
    depths = await storage.depths()
    for depth in depths:
        if queue in (None, depth.queue):
            tabs[depth.state] += depth.jobs
    tabs.queues = {depth.queue for depth in depths}
    return tabs


def chips(wanted: JobFilter) -> list[dict[str, Any]]:
    """Return the conditions beside the state, each with the filter without it."""
    found: list[tuple[str, str, JobFilter]] = []
    if wanted.queue is not None:
        found.append(("queue", wanted.queue, evolve(wanted, queue=None)))
    found += [
        ("kind", kind, evolve(wanted, kinds=[one for one in wanted.kinds if one != kind])) for kind in wanted.kinds
    ]
    found += [("tag", tag, evolve(wanted, tags=[one for one in wanted.tags if one != tag])) for tag in wanted.tags]
    for name, value, rest in (
        ("run", wanted.run_id, evolve(wanted, run_id=None)),
        ("error type", wanted.error_type, evolve(wanted, error_type=None)),
        ("error", wanted.error, evolve(wanted, error=None)),
        ("worker", wanted.worker, evolve(wanted, worker=None)),
        ("added by", wanted.parent, evolve(wanted, parent=None)),
        ("since", wanted.since, evolve(wanted, since=None)),
        ("until", wanted.until, evolve(wanted, until=None)),
    ):
        if value is not None:
            found.append((name, str(value), rest))
    if wanted.argument is not None:
        found.append(("argument", dict(to_pairs(wanted))["argument"], evolve(wanted, argument=None)))
    return [{"name": name, "value": value, "without": to_query(rest)} for name, value, rest in found]


def _search(call: Call) -> Response:
    """Go to the job of an id, or to the list with one more condition."""
    text, where = call.query("q"), call.query("in")
    if where not in ("worker", "parent"):  # which are ids too
        try:
            return call.redirect(f"/jobs/{UUID(text)}")
        except ValueError:
            pass
    if where not in SEARCHES:
        raise InvalidJobError(f"{text[:80]!r} is not the id of a job; choose what to search in")
    pairs = [
        (name, value)
        for name, value in call.request.query_params.multi_items()
        if name not in ("q", "in", "after") and value.strip()
    ]
    if where != "tag":
        pairs = [(name, value) for name, value in pairs if name != where]
    query: dict[str, list[str]] = {}
    for name, value in [*pairs, (where, text)]:
        query.setdefault(name, []).append(value)
    return call.redirect(link("", "/jobs", **query))
