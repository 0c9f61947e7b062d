"""Docstrings stay within a line that is read at once."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.source import ROOT, python_files, tree

LINE_LENGTH_MAX = 120


def docstring_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that belong to a docstring, or to a text below an attribute, with their numbers; none where all fit."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if max(map(len, lines), default=0) <= LINE_LENGTH_MAX:
        return  # spares the reading of most files
    for node in ast.walk(tree(path)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                assert node.end_lineno is not None
                for number in range(node.lineno, node.end_lineno + 1):
                    yield number, lines[number - 1]


def test_no_line_of_a_docstring_is_longer_than_120_characters() -> None:
    found = []
    for path in python_files("src", "cli", "tools"):
        name = path.relative_to(ROOT).as_posix()
        found += [f"{name}:{number}" for number, line in docstring_lines(path) if len(line) > LINE_LENGTH_MAX]
    assert not found
