"""The sync client in web servers: one client a process, which the app starts when it is imported.

gunicorn with `--preload` and uWSGI import the app before they fork.
"""

from __future__ import annotations

import shutil
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jobq_core import JobState, open_storage

SUPPORT = Path(__file__).with_name("support")
PATCHED = str(SUPPORT / "patched_gunicorn.py")

GUNICORN = ["gunicorn", "--workers", "2", "--bind", "127.0.0.1:0", "sync_app:app", "--worker-class"]
UWSGI = ["uwsgi", "--master", "--processes", "2", "--http-socket", "127.0.0.1:0", "--die-on-term", "--need-app"]
UWSGI += ["--module", "sync_app:app"]

SERVERS = {
    "gunicorn sync": ("postgres", [*GUNICORN, "sync"]),
    "gunicorn sync preload": ("sqlite", [*GUNICORN, "sync", "--preload"]),
    "gunicorn threads": ("sqlite", [*GUNICORN, "gthread", "--threads", "4"]),
    "gunicorn threads preload": ("postgres", [*GUNICORN, "gthread", "--threads", "4", "--preload"]),
    "gunicorn gevent": ("postgres", [*GUNICORN, "gevent"]),
    "gunicorn gevent preload": ("sqlite", [*GUNICORN, "gevent", "--preload", "--config", PATCHED]),
    "eventlet": ("postgres", ["python", str(SUPPORT / "eventlet_server.py")]),
    "uWSGI": ("sqlite", UWSGI),
    "uWSGI threads": ("postgres", [*UWSGI, "--enable-threads", "--threads", "4"]),
}


@pytest.mark.parametrize("server", SERVERS)
async def test_requests_add_jobs_and_answer_with_their_results(
    request: pytest.FixtureRequest, children: Any, server: str
) -> None:
    storage, (command, *options) = SERVERS[server]
    url = str(request.getfixturevalue(f"{storage}_url"))
    await open_storage(url).migrate()
    found = shutil.which(command, path=str(Path(sys.executable).parent))
    assert found, f"{command} is not installed"
    serving = children.start([found, *options], {"JOBQ_STORAGE": url})
    children.jobq("worker", "shop_jobs", JOBQ_STORAGE=url)
    # The server chooses the port.
    address = serving.wait_for_line(r"(?:Listening at: http://|bound to TCP address )(127\.0\.0\.1:\d+)")[1]

    def get(_: int) -> bytes:
        with urllib.request.urlopen(f"http://{address}", timeout=40) as response:
            answer: bytes = response.read()
            return answer

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(get, range(40))) == [b"3"] * 40
    async with open_storage(url) as opened:
        assert (await opened.counts())["default"][JobState.COMPLETED] == 40
    serving.terminate()
    assert serving.wait() == 0
