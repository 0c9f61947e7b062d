"""Nothing grows past what a reader can hold."""

import ast

import pytest

from tests.architecture.source import ROOT, functions, python_files, tree

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
SOURCE = python_files("src", "cli", "tools")


def test_no_file_is_longer_than_500_lines() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCE}
    assert not [f"{path.relative_to(ROOT)}: {lines}" for path, lines in lengths.items() if lines > FILE_LINES_MAX]


def test_no_function_is_longer_than_70_lines() -> None:
    found = []
    for path in SOURCE:
        for function in functions(path):
            assert function.end_lineno is not None
            lines = function.end_lineno - function.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                found.append(f"{path.relative_to(ROOT)}:{function.lineno} {function.name}: {lines}")
    assert not found


@pytest.mark.parametrize("folder", ["src", "cli", "tools"])
def test_every_file_says_what_it_is(folder: str) -> None:
    silent = [path for path in python_files(folder) if not ast.get_docstring(tree(path))]
    assert not [str(path.relative_to(ROOT)) for path in silent]


def test_no_file_has_a_name_that_says_nothing() -> None:
    vague = {"base", "common", "helpers", "manager", "misc", "util", "utils"}
    assert not [str(path.relative_to(ROOT)) for path in SOURCE if path.stem in vague or path.parent.name in vague]
