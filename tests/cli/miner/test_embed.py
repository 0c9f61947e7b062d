"""Embeddings with the real model, and what hostile inputs of it come to."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from aitbc_cli.miner.executors.pool import ExecutorPool, Outcome, Progress, Work

Do = Callable[..., Outcome]


@pytest.fixture(scope="module")
def do(runner: asyncio.Runner, open_pool: Callable[..., ExecutorPool], make_work: Callable[..., Work]) -> Do:
    pool = open_pool({"embed": {}})

    def done(value: Any, on_progress: Callable[[Progress], None] = lambda _: None) -> Outcome:
        return runner.run(pool.run(make_work("embed", value), on_progress=on_progress))

    return done


def dot(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def test_sentences_of_one_meaning_are_closer_than_others(do: Do) -> None:
    texts = ["The cat sleeps on the sofa.", "A kitten is napping on the couch.", "Interest rates rose in March."]
    outcome = do({"texts": texts})
    assert outcome.error is None and outcome.output is not None
    cat, kitten, rates = outcome.output["vectors"]
    assert dot(cat, kitten) > dot(cat, rates) + 0.2
    assert dot(cat, cat) == pytest.approx(1.0, abs=1e-4)
    assert outcome.output["model"] == "wordllama-256"
    assert outcome.output["weights"].startswith("sha256:") and len(outcome.output["weights"]) == 71
    assert outcome.usage["texts"] == 3
    assert outcome.usage["tokens"] > 15


def test_a_vector_does_not_depend_on_its_neighbours(do: Do) -> None:
    alone = do({"texts": ["The cat sleeps."]}).output
    among = do({"texts": ["x " * 5000, "The cat sleeps.", "?"]}).output
    assert alone is not None and among is not None
    assert alone["vectors"][0] == among["vectors"][1]


@pytest.mark.parametrize("dimensions", [1, 64, 100, 256])
def test_fewer_dimensions_give_shorter_unit_vectors(do: Do, dimensions: int) -> None:
    output = do({"texts": ["hello"], "dimensions": dimensions, "model": "wordllama-256"}).output
    assert output is not None
    assert len(output["vectors"][0]) == dimensions == output["dimensions"]
    assert dot(output["vectors"][0], output["vectors"][0]) == pytest.approx(1.0, abs=1e-4)


def test_an_output_over_64_kib_comes_as_a_file_and_progress_is_told(do: Do) -> None:
    heard: list[Progress] = []
    outcome = do({"texts": ["a sentence"] * 300}, heard.append)
    assert outcome.output is None and outcome.error is None
    path = outcome.output_files["output"]
    assert len(json.loads(path.read_bytes())["vectors"]) == 300
    assert path.stat().st_mode & 0o077 == 0
    assert heard and 0 < (heard[-1].fraction or 0) <= 1


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "texts",
        {},
        {"texts": "one"},
        {"texts": []},
        {"texts": [""]},
        {"texts": [5]},
        {"texts": [None]},
        {"texts": ["a\0b"]},
        {"texts": ["\ud800"]},
        {"texts": ["a"] * 2049},
        {"texts": ["a" * 32_769]},
        {"texts": ["a" * 32_768] * 33},
        {"texts": ["a"], "dimensions": 257},
        {"texts": ["a"], "dimensions": True},
        {"texts": ["a"], "dimensions": 64.0},
        {"texts": ["a"], "more": 1},
        {"texts": ["a"], "dimensions": float("nan")},
    ],
)
def test_a_malformed_input_is_the_fault_of_the_requester_and_leaves_the_worker_alive(do: Do, value: Any) -> None:
    outcome = do(value)
    assert outcome.error is not None
    assert (outcome.error.fault, outcome.error.reason) == ("requester", "invalid_input")
    assert outcome.error.message.endswith(".")
    # The model takes a second to load: an answer this quick comes from the same worker.
    assert do({"texts": ["still here"]}).usage["milliseconds"] < 500


def test_documents_are_scored_by_the_same_model(
    runner: asyncio.Runner, open_pool: Callable[..., ExecutorPool], make_work: Callable[..., Work]
) -> None:
    pool = open_pool({"rerank": {}})

    def ranked(value: Any) -> Outcome:
        return runner.run(pool.run(make_work("rerank", value), on_progress=lambda _: None))

    documents = [
        "Interest rates rose in March.",
        "A kitten is napping on the couch.",
        "",
        "The cat sleeps on the sofa.",
    ]
    outcome = ranked({"query": "The cat sleeps on the sofa.", "documents": [text or "\u200b" for text in documents]})
    assert outcome.error is None and outcome.output is not None
    rates, kitten, _, cat = outcome.output["scores"]
    assert cat == pytest.approx(1.0, abs=1e-4)
    assert cat > kitten > rates
    assert outcome.usage["documents"] == 4
    for value, reason in (
        ({"query": "x", "documents": ["y"], "model": "other"}, "model_unavailable"),
        ({"query": "x", "documents": []}, "invalid_input"),
        ({"documents": ["y"]}, "invalid_input"),
    ):
        refused = ranked(value)
        assert refused.error is not None and refused.error.reason == reason
