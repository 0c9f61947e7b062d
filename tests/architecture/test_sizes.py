"""Nothing grows past what a reader can hold."""

import ast

import pytest

from tests.architecture.source import ROOT, functions, python_files, tree

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
SOURCE = python_files("src", "cli", "tools")
SHARED_FILE_LINES_MAX = 400
SHARED_FUNCTION_LINES_P90 = 19
KERNEL_LINES_MAX = 12_000
PACKAGES = {
    "src/aitbc/kernel": {
        "crypto",
        "database",
        "events",
        "hooks",
        "http",
        "identity",
        "legacy",
        "primitives",
        "telemetry",
    },
    "src/aitbc/server": {"admin", "asgi", "cluster", "config", "maintenance", "postgres", "runtime", "webhooks"},
}
"""The rooms of the two trees that every module is built on."""


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


@pytest.mark.parametrize("folder", PACKAGES)
def test_kernel_and_server_consist_of_these_packages(folder: str) -> None:
    assert {
        path.name for path in (ROOT / folder).iterdir() if path.is_dir() and path.name != "__pycache__"
    } == PACKAGES[folder]


@pytest.mark.parametrize("folder", PACKAGES)
def test_no_file_of_kernel_and_server_is_longer_than_400_lines(folder: str) -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in python_files(folder)}
    assert not [f"{path.relative_to(ROOT)}: {n}" for path, n in lengths.items() if n > SHARED_FILE_LINES_MAX]


@pytest.mark.parametrize("folder", PACKAGES)
def test_nine_functions_of_ten_in_kernel_and_server_have_at_most_19_lines(folder: str) -> None:
    lengths = []
    for path in python_files(folder):
        for function in functions(path):
            assert function.end_lineno is not None
            lengths.append(function.end_lineno - function.lineno + 1)
    assert sorted(lengths)[len(lengths) * 9 // 10] <= SHARED_FUNCTION_LINES_P90


def test_the_kernel_stays_small() -> None:
    assert (
        sum(len(path.read_text(encoding="utf-8").splitlines()) for path in python_files("src/aitbc/kernel"))
        <= KERNEL_LINES_MAX
    )


@pytest.mark.parametrize("folder", ["src", "cli", "tools"])
def test_every_file_says_what_it_is(folder: str) -> None:
    silent = [path for path in python_files(folder) if not ast.get_docstring(tree(path))]
    assert not [str(path.relative_to(ROOT)) for path in silent]


def test_no_file_has_a_name_that_says_nothing() -> None:
    vague = {"base", "common", "helpers", "manager", "misc", "util", "utils"}
    assert not [str(path.relative_to(ROOT)) for path in SOURCE if path.stem in vague or path.parent.name in vague]
