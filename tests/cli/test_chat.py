"""A chat in the terminal: the answer as it comes, what it cost, and a conversation."""

from pathlib import Path

import pytest

from tests.cli.installation import Person
from tests.cli.program import surroundings
from tests.modules.ai.protocols.bench import Bench
from tests.modules.ai.protocols.conftest import anyio_backend, bench
from tests.modules.ai.protocols.scripted_engine import MODEL

__all__ = ["anyio_backend", "bench"]


@pytest.fixture
def person(bench: Bench, tmp_path: Path) -> Person:
    """Somebody with money and a key."""
    return Person(surroundings(tmp_path, AITBC_URL=bench.server.url, AITBC_API_KEY=bench.key))


def test_a_question_is_answered_and_its_price_said(person: Person) -> None:
    ended = person.does("chat", "--model", MODEL, "say hello you")
    assert ended.out == "hello you \n" and "AITBC; receipt rcpt_" in ended.err
    quoted = person.gets("chat", "--model", MODEL, "say hello", "--dry-run")
    assert quoted["units_max"] > quoted["units"] == len("say hello")


def test_a_conversation_goes_on_until_an_empty_line(person: Person, bench: Bench) -> None:
    ended = person.does("chat", "--model", MODEL, "--system", "Be brief.", input="say one\nsay two\n\n")
    assert "one " in ended.out and "two " in ended.out
    assert [message["content"] for message in bench.engine.requests[-1]["messages"]] == [
        "Be brief.",
        "say one",
        "one ",
        "say two",
    ]


def test_a_model_is_shown_with_its_price_and_one_that_nobody_serves_is_not(person: Person) -> None:
    (offer,) = person.gets("model", "show", MODEL)
    assert (offer["name"], offer["kind"], offer["miners"]) == (MODEL, "chat", 1) and offer["unit_price"]
    assert "no miner serves the model 'nope'" in person.does("model", "show", "nope", code=3).err
    person.does("chat", "--model", "nope", "say x", code=2)
