"""Find words that the project's texts must not have: coinages, archaisms and old names of things.

    python tests-integration/lint/check_words.py [PATH …]

It reads all that people read: Markdown, docstrings, comments, sentences in strings (errors, logs, help texts), names of
tests and of files, comments in SQL and TOML. What stands in backticks or is a name in code is not prose; names are
searched for the few words that only an old name can be. words.toml holds the words, and phrases to plant: before a
file is read, each phrase is planted in a text of each kind, and must be found there.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

COVERED = (".",)
"""The paths that are checked by default, as git's pathspecs."""


class Word(NamedTuple):
    """An entry of words.toml."""

    find: re.Pattern[str]
    say: str
    planted: list[str]
    fine: list[str]
    names: bool


class Text(NamedTuple):
    """A piece of text, and the line on which it begins."""

    line: int
    text: str
    is_name: bool = False


class Finding(NamedTuple):
    """A phrase that must not be there."""

    line: int
    phrase: str
    say: str


def load_words() -> list[Word]:
    """Read words.toml."""
    entries = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))["words"]
    return [
        Word(
            re.compile(entry["find"], re.IGNORECASE),
            entry["say"],
            entry["planted"],
            entry.get("fine", []),
            entry.get("names", False),
        )
        for entry in entries
    ]


def python_texts(source: str) -> Iterator[Text]:
    """Yield the comments, the strings of more than a word, and the names of Python code."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr():
                yield Text(node.lineno, "".join(_spoken(part) for part in node.values))
            case ast.Constant(value=str(value)) if " " in value.strip():
                yield Text(node.lineno, value)
    yield from _comments_and_names(source)


def _spoken(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "…"


def _comments_and_names(source: str) -> Iterator[Text]:
    block: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line = token.start[0]
        if token.type == tokenize.COMMENT:
            if line != last + 1:
                yield Text(first, "\n".join(block))
                block, first = [], line
            block.append(token.string.lstrip("#: "))
            last = line
        elif token.type == tokenize.NAME:
            yield Text(line, token.string, is_name=True)
    yield Text(first, "\n".join(block))


def markdown_texts(source: str) -> Iterator[Text]:
    """Yield the prose of a page, and what its blocks of code say."""
    prose: list[str] = []
    block: list[str] = []
    fence = None
    for number, line in enumerate(source.splitlines(), start=1):
        opening = re.match(r"\s*```\s*(\w*)", line)
        prose.append("" if fence is not None or opening else line)
        if fence is not None and opening:
            yield from _block_texts(fence, number - len(block), "\n".join(block))
            fence, block = None, []
        elif opening:
            fence = opening[1]
        elif fence is not None:
            block.append(line)
    yield Text(1, "\n".join(prose))


def _block_texts(language: str, line: int, code: str) -> Iterator[Text]:
    if language == "python":
        for text in python_texts(code):
            yield text._replace(line=text.line + line - 1)
    else:
        yield Text(line, code)


def commented_texts(marker: str) -> Callable[[str], Iterator[Text]]:
    """Return what yields the comments of a language, and blank lines for the rest."""

    def texts(source: str) -> Iterator[Text]:
        yield Text(1, "\n".join(line.partition(marker)[2] for line in source.splitlines()))

    return texts


READERS: dict[str, Callable[[str], Iterator[Text]]] = {
    ".py": python_texts,
    ".md": markdown_texts,
    ".sql": commented_texts("--"),
    ".toml": commented_texts("#"),
    ".mjs": commented_texts("//"),
}


def findings(text: Text, words: list[Word]) -> Iterator[Finding]:
    """Yield the phrases of a text that words.toml has."""
    prose, lines = _normalized(text)
    # A test's name is a sentence. What `patience` is called there is the option's name.
    is_sentence = not text.is_name or text.text.startswith("test_")
    for word in words:
        if is_sentence or word.names:
            for match in word.find.finditer(prose):
                if not (text.is_name and match[0] == "patience"):
                    yield Finding(lines(match.start()), match[0], word.say)


def _normalized(text: Text) -> tuple[str, Callable[[int], int]]:
    """Return the text with one space between words and without code, and a function from a position to a line."""
    if text.is_name:
        apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_+", " ", text.text)
        return apart, lambda position: text.line
    prose = re.sub(r"`[^`]*`", lambda code: "`" + "\n" * code[0].count("\n") + "`", text.text)
    prose = re.sub(r"\b\w+=\S*", "=", prose)
    found = [(number, word) for number, line in enumerate(prose.split("\n"), start=text.line) for word in line.split()]
    starts = list(accumulate((len(word) + 1 for _, word in found), initial=0))
    return " ".join(word for _, word in found), lambda position: found[bisect_right(starts, position) - 1][0]


def check(source: str, suffix: str, words: list[Word]) -> list[Finding]:
    """Return what is found in a file's text."""
    return sorted({found for text in READERS[suffix](source) for found in findings(text, words)})


def plant(phrase: str) -> dict[str, tuple[str, str]]:
    """Return a text of each kind that holds the phrase: the kind, its suffix, and the text."""
    if re.match(r"(?:test_\w+$|def |class |import |from |self|\w+ = )", phrase):
        code = f"def {phrase}(): ..." if phrase.startswith("test_") else phrase
        return {"name": (".py", code)}
    first, _, rest = phrase.partition(" ")
    wrapped = f"{first}\n{rest}" if rest else phrase
    return {
        "docstring": (".py", f'def f():\n    """A line.\n\n    {wrapped}\n    """'),
        "comment": (".py", "# " + wrapped.replace("\n", "\n# ")),
        "message": (".py", f'raise ValueError(f"{{x}}: {phrase} for {{x}}")'),
        "page": (".md", f"# Title\n\n{wrapped}\n"),
        "block": (".md", f"```python\n# {phrase}\n```\n"),
        "output": (".md", f"```console\n$ run\n{phrase}\n```\n"),
        "SQL": (".sql", "SELECT 1;  -- " + wrapped.replace("\n", "\n-- ")),
        "settings": (".toml", f"x = 1 # {phrase}"),
    }


def check_plants(words: list[Word]) -> list[str]:
    """Return a line for each planted phrase that is not found, and for each fine one that is."""
    problems = []
    for word in words:
        for phrase in word.planted:
            problems += [
                f"{phrase!r} is not found in a {kind}"
                for kind, (suffix, source) in plant(phrase).items()
                if word.say not in {found.say for found in check(source, suffix, words)}
            ]
        for phrase in word.fine:
            problems += [
                f"{phrase!r} is found in a {kind}, and is fine"
                for kind, (suffix, source) in plant(phrase).items()
                if word.say in {found.say for found in check(source, suffix, words)}
            ]
    return problems


def listed(paths: list[str]) -> list[Path]:
    """Return the files of the repository under these paths that can be read here."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *paths]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    files = [ROOT / name for name in names]
    return [file for file in files if file.suffix in READERS and file.exists()]


def main() -> None:
    """Check the paths, and exit with a line for each phrase that is found."""
    words = load_words()
    problems = check_plants(words)
    files = listed(sys.argv[1:] or list(COVERED))
    for file in files:
        name = file.relative_to(ROOT)
        problems += [f"{name}: {found.phrase!r}: {found.say}" for found in findings(Text(1, file.stem, True), words)]
        for line, phrase, say in check(file.read_text(encoding="utf-8"), file.suffix, words):
            problems.append(f"{name}:{line}: {phrase!r}: {say}")
    if problems:
        sys.exit("\n".join([*problems, f"{len(problems)} phrases in {len(files)} files to say otherwise"]))
    planted = sum(len(word.planted) for word in words)
    print(f"{planted} planted phrases, all found; none in {len(files)} files")


if __name__ == "__main__":
    main()
