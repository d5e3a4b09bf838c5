"""A Django app's own test suite, which adds jobs over Django's connection: see support/shop_django/."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).parent / "support"


def test_the_tests_of_a_django_app_pass(storage_url: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "django", "test", "shop_django", "--settings", "shop_django.settings"],
        env=os.environ | {"SHOP_URL": storage_url, "PYTHONPATH": str(SUPPORT)},
        cwd=SUPPORT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert "Ran 7 tests" in ran.stderr
