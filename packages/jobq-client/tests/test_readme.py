from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_the_readmes_program_runs_word_for_word() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"[0-9a-f-]{36} 1\n", done.stdout)
