"""The jobs of the census, which the client and the workers share. This module imports neither of them."""

from __future__ import annotations

import ast
from pathlib import Path

import attrs

from jobq_core import JobState, job, open_storage
from jobq_core.storage import JobFilter

QUEUE = "census"
NOOP_QUEUE = "census-noop"


@attrs.frozen(kw_only=True)
class Count:
    """The counts of one file, or of all files."""

    path: str
    files: int = 1
    lines: int
    functions: int
    classes: int
    imports: int


@job(queue=QUEUE, timeout=60)
def count_file(path: str) -> Count:
    """Parse one source file and count its lines, functions, classes and imports."""
    source = Path(path).read_bytes()
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:
        nodes = []  # the standard library's tests contain broken files on purpose; their lines count too
    return Count(
        path=path,
        lines=len(source.splitlines()),
        functions=sum(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) for node in nodes),
        classes=sum(isinstance(node, ast.ClassDef) for node in nodes),
        imports=sum(isinstance(node, (ast.Import, ast.ImportFrom)) for node in nodes),
    )


@job(queue=NOOP_QUEUE)
async def noop() -> None:
    """Do nothing."""


@job(queue=QUEUE, timeout=60)
async def summarise(run_id: str, storage: str) -> Count:
    """Sum up the results of a run. Raises ValueError if a file was counted twice."""
    seen: set[str] = set()
    lines = functions = classes = imports = 0
    async with open_storage(storage) as opened:
        wanted = JobFilter(queue=QUEUE, run_id=run_id, kinds=("count_file",), states={JobState.COMPLETED})
        cursor = None
        while True:
            page = await opened.find(wanted, after=cursor, limit=500)
            for record in filter(None, await opened.get([found.id for found in page.jobs])):
                count = count_file.definition.decode_result(record.result_json or b"null")
                if count.path in seen:
                    raise ValueError(f"{count.path} was counted twice")
                seen.add(count.path)
                lines += count.lines
                functions += count.functions
                classes += count.classes
                imports += count.imports
            cursor = page.cursor
            if cursor is None:
                break
    return Count(
        path=f"{len(seen)} files",
        files=len(seen),
        lines=lines,
        functions=functions,
        classes=classes,
        imports=imports,
    )
