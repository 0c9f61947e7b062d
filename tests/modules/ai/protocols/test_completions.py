"""The older completions by OpenAI's own client: a text in, a text out, whole and as a stream."""

from typing import Any

import openai
import pytest

from tests.modules.ai.protocols.bench import Bench
from tests.modules.ai.protocols.scripted_engine import MODEL


def complete(bench: Bench, prompt: Any, **more: Any) -> Any:
    return bench.openai().completions.create(**{"model": MODEL, "prompt": prompt, "max_tokens": 50, **more})


def test_a_completion_is_answered_whole_and_paid(bench: Bench) -> None:
    answer = complete(bench, "say one two")
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-") and answer.model == MODEL
    (choice,) = answer.choices
    assert (choice.text, choice.index, choice.finish_reason, choice.logprobs) == ("one two ", 0, "stop", None)
    assert answer.usage.total_tokens == 7 and answer.aitbc["prompt"] == "sent as one message of a user"
    assert bench.market.ask(f"/api/v1/ai/jobs/{answer.aitbc['job']}")["price"] == answer.aitbc["price"]
    assert bench.engine.requests[-1]["messages"] == [{"role": "user", "content": "say one two"}]
    assert complete(bench, ["say a b c"], max_tokens=2).choices[0].finish_reason == "length"
    assert complete(bench, "say x", model="auto:cheap").model == MODEL


def test_the_limit_of_tokens_is_the_one_that_openai_has(bench: Bench) -> None:
    bench.openai().completions.create(model=MODEL, prompt="echo")
    assert bench.engine.requests[-1]["max_tokens"] == 16


def test_a_completion_is_streamed_and_ends_as_clients_expect(bench: Bench) -> None:
    with complete(bench, "say one two", stream=True, stream_options={"include_usage": True}) as stream:
        *telling, last = list(stream)
    assert {chunk.object for chunk in telling} == {"text_completion"}
    assert "".join(chunk.choices[0].text for chunk in telling) == "one two "
    assert [chunk.choices[0].finish_reason for chunk in telling if chunk.choices[0].finish_reason] == ["stop"]
    assert last.choices == [] and last.usage.total_tokens == 7 and last.aitbc["receipt"]
    with complete(bench, "say one", stream=True) as stream:
        assert list(stream)[-1].aitbc["price"]


def test_the_prompt_is_told_again_where_that_is_asked(bench: Bench) -> None:
    answer = complete(bench, "say b", echo=True, n=2)
    assert [(choice.index, choice.text) for choice in answer.choices] == [(0, "say bb "), (1, "say bb ")]
    with complete(bench, "say b", echo=True, n=2, stream=True) as stream:
        chunks = list(stream)
    texts = ["".join(c.choices[0].text for c in chunks if c.choices[0].index == index) for index in (0, 1)]
    assert texts == ["say bb ", "say bb "]


def test_likelihoods_come_in_the_older_form(bench: Bench) -> None:
    (choice,) = complete(bench, "say a bc", logprobs=2).choices
    assert choice.logprobs.tokens == ["a ", "bc "] and choice.logprobs.token_logprobs == [-0.5, -0.5]
    assert choice.logprobs.text_offset == [0, 2] and choice.logprobs.top_logprobs == [{}, {}]
    with complete(bench, "say a", logprobs=0, stream=True) as stream:
        assert list(stream)[-1].choices[0].logprobs.tokens == ["a "]
    assert bench.engine.requests[-1]["logprobs"] is True and bench.engine.requests[-1]["top_logprobs"] == 0


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"logprobs": 6}, "logprobs"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"extra_body": {"frobnicate": 1}}, "frobnicate"),
    ],
)
def test_what_a_chat_cannot_do_is_a_400_that_names_it(bench: Bench, more: dict[str, Any], named: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        complete(bench, **{"prompt": "say x", **more})
    assert refused.value.param == named


def test_what_goes_wrong_is_the_exception_that_clients_expect(bench: Bench) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        complete(bench, "say x", model="nobody")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="too long"):
        complete(bench, "refuse too long")
    with pytest.raises(openai.APIError) as broken, complete(bench, "crash 3 0.2", stream=True) as stream:
        list(stream)
    assert broken.value.code == "answer_broken"
