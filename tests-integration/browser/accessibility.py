"""What axe-core finds wrong with a page for people who cannot see it well, or use no mouse."""

from __future__ import annotations

from typing import Any, Final

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_AXE: Final = Axe()
LEVEL_AA: Final = {
    "type": "tag",
    "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}
"""The rules of WCAG 2.2 up to level AA, and axe-core's own advice."""
CONTRAST: Final = {"type": "rule", "values": ["color-contrast"]}


def find_barriers(page: Page, rules: dict[str, Any] = LEVEL_AA) -> list[str]:
    """Return what is wrong, a line for each element: the rule and the element."""
    found = _AXE.run(page, options={"resultTypes": ["violations"], "runOnly": rules}).response
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found["violations"] for node in rule["nodes"]]
