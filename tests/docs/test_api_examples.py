"""Every example of docs/api.md, run in its order in one shell beside `make run`, prints what the document says."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.docs.console import Example, examples, fenced
from tests.docs.demonstration import demonstration
from tests.docs.shell import run_examples

PAGE = ROOT / "docs/api.md"
EXAMPLES = examples(PAGE)
SECONDS = 150
pytestmark = pytest.mark.timeout(300)


def _variables() -> dict[str, str]:
    """What the page sets before `make run`."""
    (line,) = (block.strip() for block in fenced(PAGE, "sh"))
    *words, command, target = line.split()
    assert (command, target) == ("make", "run")
    return dict(word.split("=", 1) for word in words)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """What each example printed; fewer than there are examples when the shell did not come to the end."""
    place = tmp_path_factory.mktemp("examples")
    with demonstration(place, **_variables()) as environment:
        path = f"{Path(sys.executable).parent}:{environment['PATH']}"
        its_own = environment | {"PATH": path, "TMPDIR": str(place)}
        yield run_examples(EXAMPLES, ROOT, its_own, place / "output", SECONDS)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 40


def test_none_can_wait_for_ever() -> None:
    endless = [str(each) for each in EXAMPLES if re.search(r"\b(until|while|wait)\b(?!\?seconds=)", each.command)]
    endless += [str(each) for each in EXAMPLES if "curl -sSN" in each.command and " -m " not in each.command]
    assert not endless


@pytest.mark.parametrize("number", range(len(EXAMPLES)), ids=[str(example) for example in EXAMPLES])
def test_an_example_prints_what_the_document_says(printed: list[str], number: int) -> None:
    example = EXAMPLES[number]
    assert number < len(printed), f"the shell stopped at {EXAMPLES[len(printed)]}"
    wanted = "\n".join(example.printed)
    assert example.agrees_with(printed[number]), f"{example}\nwanted:\n{wanted}\nprinted:\n{printed[number]}"


@pytest.mark.parametrize(
    ("wanted", "output", "agrees"),
    [
        ([], "", True),
        ([], "surprise\n", False),
        (["{…}"], '{"a":1}\n', True),
        (['{"a":…,"c":3}'], '{"a":1,"b":2,"c":3}\n', True),
        (['{"a":…,"c":3}'], '{"a":1,"b":2,"c":4}\n', False),
        (["one", "…", "four"], "one\ntwo\nthree\nfour\n", True),
        (["one", "four"], "one\ntwo\nfour\n", False),
    ],
)
def test_wildcards_stand_for_anything_and_nothing_else(wanted: list[str], output: str, agrees: bool) -> None:
    assert Example(1, "x", wanted).agrees_with(output) is agrees
