"""A trusted miner evaluates another one's answer by its own chat server, which speaks as llama.cpp's does."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from aitbc_cli.miner.executors.chat import ChatExecutor
from aitbc_cli.miner.executors.work import Work, WorkFailed
from tests.cli.tiny_server import Received, Reply, answering, told

ASK = {"messages": [{"role": "user", "content": "Greet."}], "model": "tiny", "logprobs": True}
TEXT = "Hé you"
PIECES = [{"id": 7, "piece": "H"}, {"id": 8, "piece": [0xC3]}, {"id": 9, "piece": [0xA9]}, {"id": 10, "piece": " you"}]
CHECK = {
    "text": TEXT,
    "tokens": [
        {"start": 0, "end": 1, "likelihood": -0.5},
        {"start": 2, "end": 3, "likelihood": -0.5},
        {"start": 3, "end": 5, "likelihood": -0.5},
    ],
    "passes": 0.4,
}
BEFORE = [1, 2]


def engine(likelihood: float, asked: list[Any]) -> Callable[[Received], Reply]:
    """A server that finds each token as likely as this."""

    def answer(request: Received) -> Reply:
        if request.path == "/v1/models":
            return told({"data": [{"id": "tiny"}]})
        body = request.json()
        if request.path == "/apply-template":
            return told({"prompt": "<user>Greet.<model>"})
        if request.path == "/tokenize":
            return told({"tokens": PIECES if body.get("with_pieces") else BEFORE})
        if request.path == "/completion":
            asked.append(body["prompt"])
            ids = [BEFORE[0], *(piece["id"] for piece in PIECES)]
            at = len(body["prompt"]) - len(BEFORE) + 1
            likely = [{"id": 99, "logprob": -0.1}, {"id": ids[at], "logprob": likelihood}]
            return told({"completion_probabilities": [{"top_logprobs": likely}]})
        message = {"role": "assistant", "content": "Good day."}
        return told({"model": "tiny", "choices": [{"message": message, "finish_reason": "stop"}]})

    return answer


def a_check(make_work: Callable[..., Work]) -> Work:
    return replace(make_work("chat", ASK, seconds=60.0), check=CHECK)


def test_an_answer_is_evaluated_and_one_that_lies_outside_is_answered_anew(make_work: Callable[..., Work]) -> None:
    asked: list[Any] = []
    reports: list[Any] = []
    with answering(engine(-0.6, asked)) as near, answering(engine(-3.0, asked)) as far:
        outcome = ChatExecutor({"base_url": near.url}).run(a_check(make_work), reports.append)
        evaluation = [
            {"start": 0, "likelihood": -0.6, "most": -0.1},
            {"start": 2, "likelihood": -0.6, "most": -0.1},
            {"start": 3},  # this model cuts the text elsewhere
        ]
        assert outcome.output is not None
        assert outcome.output["evaluation"] == evaluation
        assert asked == [BEFORE, [*BEFORE, 7, 8]]
        outside = ChatExecutor({"base_url": far.url}).run(a_check(make_work), reports.append)
        assert outside.output is not None
        assert outside.output["message"]["content"] == "Good day."
        assert [one.get("likelihood") for one in outside.output["evaluation"]] == [-3.0, -3.0, None]
        assert reports == []  # nobody follows a check


def test_an_answer_within_the_tolerance_is_repeated_as_it_was(make_work: Callable[..., Work]) -> None:
    with answering(engine(-0.5, [])) as near:
        work = replace(a_check(make_work), check={**CHECK, "tokens": CHECK["tokens"][:2], "passes": 0.45})  # type: ignore[index]
        outcome = ChatExecutor({"base_url": near.url}).run(work, lambda _: None)
        assert outcome.output is not None
        assert outcome.output["message"] == {"role": "assistant", "content": TEXT}
        assert outcome.output["model"] == "tiny"


def test_a_server_without_likelihoods_of_prompts_is_nobodys_fault(make_work: Callable[..., Work]) -> None:
    def other(request: Received) -> Reply:
        return told({"data": [{"id": "tiny"}]}) if request.path == "/v1/models" else told({"error": "?"}, 404)

    with answering(other) as server, pytest.raises(WorkFailed) as failed:
        ChatExecutor({"base_url": server.url}).run(a_check(make_work), lambda _: None)
    assert (failed.value.failure.fault, failed.value.failure.reason) == ("platform", "unsupported_input")
