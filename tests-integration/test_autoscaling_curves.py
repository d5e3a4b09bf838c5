"""The picture of docs/guides/server.md shows what the Autoscaler of today does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def test_the_picture_shows_the_curves_of_todays_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).with_name("documents"))
    import autoscaling_curves

    assert autoscaling_curves.fingerprint() in autoscaling_curves.PICTURE.read_text(encoding="utf-8"), (
        f"draw it again: python {Path(*Path(autoscaling_curves.__file__).parts[-3:])}"
    )
    sys.modules.pop("autoscaling_curves")
