"""The dashboard in a real browser: each page, wide and narrow, light and dark; actions, live parts, roles, keyboard."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest
from accessibility import CONTRAST, find_barriers
from dashboard_site import Site, Visit
from playwright.sync_api import expect

from jobq_core import JobState
from jobq_core.ids import new_id
from jobq_core.records import Progress
from jobq_core.storage import Claim, JobFilter, NewJob, ProgressReport
from jobq_server.web import Role

SCRIPT = "<script>window.ran = 1</script>\"'><img src=x onerror='window.ran = 1'>"
PAGES = (
    *(
        "/",
        "/?queue=images&span=day",
        "/jobs",
        "/jobs?state=failed&limit=25",
        "/jobs?tag=nothing",
        "/failed",
        "/workers",
    ),
    *("/limits", "/operations", "/audit", "/doctor", "/settings", "/add"),
)


def pages_of(site: Site) -> list[str]:
    worker = site.shop.workers[0].id
    job = site.shop.job_of_interest
    return [*PAGES, f"/jobs/{job}", f"/add?like={job}", f"/workers/{worker}", f"/workers/{worker}/drain"]


def add(site: Site, count: int = 1, **options: Any) -> list[NewJob]:
    """Add jobs to a queue that no worker serves."""
    fields = {"queue": f"q{new_id().hex[-6:]}", "kind": "send", "arguments": b"{}", **options}
    jobs = [NewJob(id=new_id(), **fields) for _ in range(count)]
    site.call(site.storage.add(jobs))
    return jobs


def state_of(site: Site, job: NewJob | str) -> JobState | None:
    (record,) = site.call(site.storage.get([UUID(job) if isinstance(job, str) else job.id]))
    return None if record is None else record.state


@pytest.mark.parametrize("part", range(3))
def test_each_page_fits_and_can_be_read(site: Site, visit: Visit, part: int) -> None:
    visitor = visit()
    for path in pages_of(site)[part::3]:
        visitor.page.set_viewport_size({"width": 1440, "height": 900})
        page = visitor.go(path)
        assert page.locator("h1").count() == 1, path
        assert page.evaluate("document.documentElement.scrollWidth") <= 1440, path
        assert find_barriers(page) == [], path
        page.set_viewport_size({"width": 390, "height": 844})
        page.emulate_media(color_scheme="dark")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        assert find_barriers(page, CONTRAST) == [], path


def test_what_cannot_be_read_is_found(visit: Visit) -> None:
    page = visit().go("/jobs")
    page.evaluate("document.querySelector('h1').style.color = '#bbb'")
    page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    assert [found.partition(":")[0] for found in find_barriers(page)] == ["button-name", "color-contrast"]


def test_scripts_in_the_data_never_run(site: Site, visit: Visit) -> None:
    arguments = msgspec.json.encode({SCRIPT: SCRIPT})
    job = NewJob(id=new_id(), queue=SCRIPT, kind=SCRIPT, arguments=arguments, tags=(SCRIPT,), run_id=SCRIPT)
    site.call(site.storage.add([job]))
    visitor = visit()
    for path in ("/", "/jobs", f"/jobs/{job.id}", f"/add?like={job.id}", "/doctor", "/settings"):
        page = visitor.go(path)
        # Not with `wait_for_function`: where it has to wait, it evaluates a string, which the page's policy forbids.
        expect(page.locator("body[data-live]:not([data-live='']):has(#live-state[hidden])")).to_have_count(0)
        assert page.evaluate("window.ran") is None, path
        assert "window.ran = 1" in page.content()
    site.call(site.storage.delete([job.id]))


def test_an_open_page_follows_its_job(site: Site, visit: Visit) -> None:
    worker = site.shop.workers[0]
    (job,) = add(site)
    claim = Claim.of(job.queue, limit=1)
    visitor = visit()
    visitor.expect_status(404)  # of the job that is deleted at the end
    page = visitor.go(f"/jobs/{job.id}")
    expect(page.locator("#live_head")).to_contain_text("pending")
    expect(page.locator("#live-state")).to_have_text("live")
    (claimed,) = site.call(site.storage.settle_and_claim(worker.id, (), claim)).claimed
    report = ProgressReport(id=job.id, lease=claimed.lease, progress=Progress(percent=42, message="row 42"))
    site.call(site.storage.progress(worker.id, [report]))
    expect(page.locator("#live_head")).to_contain_text("row 42")
    expect(page.locator("#live_facts")).to_contain_text("web1")
    site.call(site.storage.delete([job.id]))
    expect(page.locator("main")).to_contain_text("removed after its retention")


def test_a_page_whose_stream_was_refused_asks_for_it_again(visit: Visit) -> None:
    visitor = visit()
    visitor.expect_status(502)  # of a proxy, while the server behind it starts again
    visitor.page.clock.install()
    visitor.page.route("**/live?*", lambda route: route.fulfill(status=502), times=1)
    page = visitor.go("/jobs")
    expect(page.locator("#live-state")).to_have_text("connecting")
    page.clock.fast_forward(10_000)
    expect(page.locator("#live-state")).to_have_text("live")


def test_a_renewed_list_keeps_what_is_selected_and_focused(site: Site, visit: Visit) -> None:
    first, second = add(site, 2, queue="kept")
    page = visit().go("/jobs?queue=kept")
    box = page.locator(f"input[value='{second.id}']")
    box.focus()
    page.keyboard.press("Space")
    site.call(site.storage.disable([first.id]))
    expect(page.locator("#live_jobs")).to_contain_text("disabled")
    expect(box).to_be_checked()
    expect(box).to_be_focused()


def test_a_job_is_aborted_after_a_question(site: Site, visit: Visit) -> None:
    (job,) = add(site)
    page = visit(Role.OPERATE).go(f"/jobs/{job.id}")
    page.get_by_role("button", name="Abort…").click()
    assert state_of(site, job) is JobState.PENDING
    page.get_by_role("button", name="Abort 1 job").click()
    expect(page.get_by_text("1 job aborted")).to_be_visible()
    assert state_of(site, job) is JobState.ABORTED
    expect(page.get_by_role("button", name="Delete")).to_have_count(0)


def test_all_that_match_are_changed_after_a_preview(site: Site, visit: Visit) -> None:
    add(site, 120, queue="many", tags=("old",))
    page = visit().go("/jobs?queue=many&limit=25")
    page.locator("select[name=scope]").select_option("all")
    page.locator("select[name=action]").select_option("disable")
    page.get_by_role("button", name="Continue").click()
    expect(page.locator(".preview")).to_contain_text("120 jobs")
    page.get_by_role("button", name="Disable 120 jobs").click()
    expect(page.locator("#live_operation")).to_contain_text("120 of 120 jobs processed, 120 changed")
    found = site.call(site.storage.count(JobFilter(queue="many", states=[JobState.DISABLED])))
    assert found == 120


def test_all_jobs_of_a_page_are_selected_at_once(site: Site, visit: Visit) -> None:
    jobs = add(site, 3)
    page = visit().go(f"/jobs?queue={jobs[0].queue}")
    page.get_by_label("Select all jobs of this page").check()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Retry 3 jobs").click()
    expect(page.get_by_text("Nothing was retried")).to_be_visible()


def test_a_job_is_added_and_edited(site: Site, visit: Visit) -> None:
    page = visit().go("/add")
    page.get_by_label("Kind").fill("resize")
    page.get_by_label("Queue").fill("typed")
    page.get_by_label("Arguments").fill('{"n": 9007199254740993}')
    page.get_by_role("button", name="Add the job").click()
    expect(page.locator("pre").first).to_contain_text("9007199254740993")
    page.get_by_role("link", name="Edit as a new job").click()
    page.get_by_label("Arguments").fill('{"n": 2}')
    page.get_by_label("Abort the old job").check()
    page.get_by_role("button", name="Add the job").click()
    expect(page.locator("pre").first).to_contain_text('"n": 2')
    newer, older = site.call(site.storage.find(JobFilter(queue="typed"))).jobs
    assert (newer.state, older.state) == (JobState.PENDING, JobState.ABORTED)


def test_the_search_field_suggests_values_of_what_is_searched_in(site: Site, visit: Visit) -> None:
    (job,) = add(site, tags=("seldom",))
    page = visit().go(f"/jobs?queue={job.queue}")
    field = page.get_by_label("Search", exact=True)
    for where, value in (("worker", str(site.shop.workers[0].id)), ("tag", "seldom")):
        page.get_by_label("Search in").select_option(where)
        assert value in field.evaluate("(field) => [...field.list.options].map((one) => one.value)")
    page.get_by_label("Search in").select_option("error")
    assert field.evaluate("(field) => field.list") is None


def test_a_queue_is_paused_and_resumed(site: Site, visit: Visit) -> None:
    (job,) = add(site)
    page = visit(Role.OPERATE).go("/settings")
    panel = page.locator("section", has=page.get_by_role("heading", name=job.queue, exact=True))
    panel.get_by_role("button", name="Pause").click()
    expect(panel).to_contain_text("by operate")
    expect(panel.get_by_role("button", name="Save")).to_have_count(0)
    panel.get_by_role("button", name="Resume").click()
    expect(panel.get_by_role("button", name="Pause")).to_be_visible()


def test_a_worker_is_asked_for_its_stacks(site: Site, visit: Visit) -> None:
    worker = site.shop.workers[1]
    page = visit().go(f"/workers/{worker.id}")
    page.get_by_role("button", name="Stacks").click()
    expect(page.locator("#live_answer")).to_contain_text("has not answered yet")
    (request,) = site.call(site.storage.worker_requests(worker.id))
    site.call(site.storage.answer_request(request.id, "File images.py, line 41"))
    expect(page.locator("#live_answer")).to_contain_text("File images.py, line 41")


def test_a_viewer_changes_nothing_and_sees_no_payloads(site: Site, visit: Visit) -> None:
    visitor = visit(Role.VIEW)
    visitor.expect_status(403)
    page = visitor.go(f"/jobs/{site.shop.job_of_interest}")
    expect(page.get_by_text("Hidden from your role.")).to_have_count(2)  # arguments, and logs
    assert "4711.png" not in page.content()
    expect(page.get_by_role("button", name="Abort")).to_have_count(0)
    answer = page.goto(f"{site.base}/add")
    assert answer is not None
    assert answer.status == 403


def test_nobody_sees_anything_before_the_login(site: Site, visit: Visit) -> None:
    visitor = visit(None)
    visitor.expect_status(401)
    page = visitor.go("/jobs?queue=mail")
    expect(page).to_have_url(f"{site.base}/login?to=%2Fjobs%3Fqueue%3Dmail")
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password or token").fill("not the password")
    with page.expect_response("**/login") as answer:
        page.get_by_role("button", name="Log in").click()
    assert answer.value.status == 401
    page.get_by_label("Password or token").fill("the password of admin")
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{site.base}/jobs?queue=mail")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("button", name="Log in")).to_be_visible()


def test_the_keyboard_is_enough(site: Site, visit: Visit) -> None:
    (job,) = add(site)
    page = visit().go(f"/jobs/{job.id}")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == "Disable":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 job disabled")).to_be_visible()


def test_the_pages_work_without_scripts(site: Site, visit: Visit) -> None:
    (job,) = add(site)
    page = visit(java_script_enabled=False).go(f"/jobs?queue={job.queue}")
    page.locator(f"input[value='{job.id}']").check()
    page.locator("select[name=action]").select_option("disable")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("1 job disabled")).to_be_visible()
    assert state_of(site, job) is JobState.DISABLED


def test_light_and_dark_are_chosen(site: Site, visit: Visit) -> None:
    page = visit(color_scheme="light").go("/jobs")
    colour = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(colour)
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.wait_for_load_state()  # until then, a page has no colours
    assert page.evaluate(colour) != light
    expect(page).to_have_url(f"{site.base}/jobs")
    page.get_by_role("button", name="Auto").click()
    expect(page.locator("html")).not_to_have_attribute("data-theme", "dark")
    expect(page.locator("html")).to_have_css("background-color", light)
