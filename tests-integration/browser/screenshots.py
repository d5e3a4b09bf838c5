"""Take pictures of the dashboard: four pages, each light, dark and on a phone.

python tests-integration/browser/screenshots.py docs/images           # those that the docs and the README show
python tests-integration/browser/screenshots.py --all FOLDER          # all twelve
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from dashboard_site import Site, find_chromium, open_window
from playwright.sync_api import sync_playwright

PAGES: Final = {
    "overview": ("/", 960),
    "job": ("/jobs/{job}", 800),
    "failed": ("/failed", 480),
    "workers": ("/workers", 480),
}
"""Pages, and the height of the window of a computer, in pixels."""
LOOKS: Final[dict[str, dict[str, Any]]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", "width": 390, "height": 844, "device_scale_factor": 1.5},
}
SHOWN: Final = ("overview-light", "overview-phone", "job-light", "job-phone", "failed-dark", "workers-light")
"""What the docs and the README show."""


def main(folder: Path, names: set[str]) -> None:
    """Take the pictures of these names."""
    folder.mkdir(parents=True, exist_ok=True)
    site = Site()
    site.start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        for name, (path, height) in PAGES.items():
            for look, options in LOOKS.items():
                if f"{name}-{look}" in names:
                    visitor = open_window(browser, site.base, **{"height": height, **options})
                    page = visitor.go(path.format(job=site.shop.job_of_interest))
                    page.wait_for_function(
                        "!document.body.dataset.live || document.getElementById('live-state').textContent === 'live'"
                    )
                    page.screenshot(path=folder / f"dashboard-{name}-{look}.png")
                    visitor.context.close()
        browser.close()
    site.stop()


if __name__ == "__main__":
    *options, target = sys.argv[1:]
    main(Path(target), {f"{name}-{look}" for name in PAGES for look in LOOKS} if "--all" in options else set(SHOWN))
