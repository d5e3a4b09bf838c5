"""The README's programs do what it says."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1].joinpath("README.md")


def test_its_programs_run_and_print_what_they_promise(tmp_path: Path) -> None:
    programs = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    printed = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        for program in programs
    ]
    assert printed == ["receipt of order 7\n", "100 20 20\n"]
