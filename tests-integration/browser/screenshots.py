"""Make the pictures of the docs and the README again.

python tests-integration/browser/screenshots.py docs/images
"""

from __future__ import annotations

import sys
from pathlib import Path

from dashboard_site import Site, find_chromium, open_window
from playwright.sync_api import sync_playwright

PHONE = {"width": 390, "height": 844}
SHOTS = (
    ("overview", "/", {"color_scheme": "light", "height": 960}),
    ("overview-dark", "/", {"color_scheme": "dark", "height": 960}),
    ("overview-phone", "/", {"color_scheme": "light", **PHONE}),
    ("job", "/jobs/{job}", {"color_scheme": "light", "height": 800}),
    ("failed", "/failed", {"color_scheme": "dark", "height": 420}),
    ("workers", "/workers", {"color_scheme": "light", "height": 420}),
)
"""The name of a picture, the page, and the window."""


def main() -> None:
    """Take the pictures."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    site = Site()
    site.start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        for name, path, options in SHOTS:
            visitor = open_window(browser, site.base, **options)
            page = visitor.go(path.format(job=site.shop.job_of_interest))
            page.wait_for_function(
                "!document.body.dataset.live || document.getElementById('live-state').textContent === 'live'"
            )
            page.screenshot(path=folder / f"dashboard-{name}.png")
            visitor.context.close()
        browser.close()
    site.stop()


if __name__ == "__main__":
    main()
