"""The examples that people begin with: read by the command line as they are, checked, and run."""

import re
from pathlib import Path

import msgspec
import pytest
import yaml  # type: ignore[import-untyped]

from aitbc.kernel.database.unit_of_work import Target
from aitbc.modules.ai.models.graphs.check import check
from aitbc.modules.ai.models.graphs.shapes import RunGraph
from aitbc_cli.exits import Stop
from aitbc_cli.written import read_written
from tests.modules.ai.graphs.make import work
from tests.modules.ai.graphs.test_graphs import answers
from tests.modules.ai.make import Worker, a_key, ai_on

ROOT = Path(__file__).parents[4]
FILES = sorted((ROOT / "examples" / "graphs").iterdir())


def documented() -> RunGraph:
    """The graph of the document."""
    text = (ROOT / "docs" / "graphs.md").read_text(encoding="utf-8")
    found = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return msgspec.convert(yaml.safe_load(found[1]), RunGraph)


async def test_the_document_s_example_runs(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, worker = market.person(), Worker(market)
        graph = (await market.ai.graphs.run(alice, documented(), a_key(alice))).id
        asked = await work(market, worker, answers)
        assert (await market.ai.graphs.get(alice, graph)).state == "succeeded"
        assert asked[-1].input["texts"] == [
            "SUMMARIZE:\nWHAT ARE TIDES? ANSWER IN ONE SENTENCE.\nWHO STUDIES TIDES? ANSWER IN ONE SENTENCE."
        ]


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_example_files_are_graphs(file: Path) -> None:
    check(msgspec.convert(read_written(str(file), hint=""), RunGraph))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", "{", "is no JSON"),
        ("a.json", "[1]", "is no object"),
        ("a.yaml", "a: [", "is no YAML"),
        ("a.yaml", "a: &x [1]\nb: *x", "aliases"),
        ("a.yaml", "a: !!python/object/apply:os.getcwd []", "is no YAML"),
    ],
)
def test_files_that_cannot_be_read_are_refused_in_words(tmp_path: Path, name: str, text: str, words: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(Stop, match=words):
        read_written(str(file), hint="")


def test_yaml_has_the_values_of_json_and_no_others(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text('at: 2026-11-28\nbudget: "0.50"\nlist: [1, 2.5, true, null, word]\n')
    assert read_written(str(file), hint="") == {
        "at": "2026-11-28",
        "budget": "0.50",
        "list": [1, 2.5, True, None, "word"],
    }
