"""The decoders of foreign bytes under atheris, which coverage guides from a few real values."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scaling import Scale

SCRIPT = Path(__file__).parent / "fuzzing" / "decoders.py"
TARGETS = ["arguments", "plain", "backoff", "url", "job_id", "moment", "array", "query"]
DONE = re.compile(r"^target (\w+)$(?:(?!^target ).)*?^Done (\d+) runs", re.MULTILINE | re.DOTALL)
"""What the script prints for each target that it has finished."""

# Atheris has wheels for some versions of Python only; pyproject.toml lists them.
pytestmark = pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="atheris is installed for Python 3.11 alone")


def test_any_bytes_are_decoded_or_refused(
    children: Any, tmp_path: Path, seed: int, scale: Scale, report: Callable[..., None]
) -> None:
    runs = scale.times(10_000, least=1000)
    child = children.python(
        SCRIPT, str(seed % 2**31 or 1), str(runs), tmp_path / "corpus", PYTHONPATH=str(Path(__file__).parent)
    )
    code = child.wait(scale.times(100, least=100))
    done = {target: int(count) for target, count in DONE.findall(child.output)}
    report("bytes for the decoders, under atheris", tried=sum(done.values()))
    assert code == 0, child.output[-5000:]
    assert list(done) == TARGETS, child.output[-2000:]
    assert min(done.values()) >= runs
