"""OpenAI's own client on `/v1/responses` (made, streamed, gone on with, told again) and on the older `/v1/completions`."""

from typing import Any

import openai
import pytest

from tests.modules.ai.protocols.bench import Bench
from tests.modules.ai.protocols.scripted_engine import MODEL

TOOL: Any = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}, "strict": False}


def test_a_response_is_made_whole_and_told_again(bench: Bench) -> None:
    client = bench.openai()
    made = client.responses.create(model=MODEL, input="say hello you", instructions="Be brief.", max_output_tokens=50)
    assert made.output_text == "hello you " and made.status == "completed" and made.instructions == "Be brief."
    assert made.usage is not None and (made.usage.input_tokens, made.usage.output_tokens) == (5, 2)
    assert bench.engine.requests[-1]["messages"][0] == {"role": "system", "content": "Be brief."}
    again = client.responses.retrieve(made.id)
    assert (again.id, again.output, again.usage) == (made.id, made.output, made.usage)
    items = client.responses.input_items.list(made.id).data
    assert [item.content[0].text for item in items] == ["say hello you"]


def test_a_stream_has_every_event_in_its_order(bench: Bench) -> None:
    with bench.openai().responses.create(model=MODEL, input="say one", stream=True) as stream:
        events = list(stream)
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(9))
    whole = events[-1].response
    assert whole.output_text == "one " and whole.usage.total_tokens == 6
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert {delta.item_id for delta in deltas} == {whole.output[0].id}


def test_the_clients_own_helper_reads_a_stream(bench: Bench) -> None:
    with bench.openai().responses.stream(model=MODEL, input="say one two") as stream:
        assert stream.get_final_response().output_text == "one two "


def test_a_conversation_goes_on_after_an_earlier_response(bench: Bench) -> None:
    client = bench.openai()
    first = client.responses.create(model=MODEL, input="say one", instructions="Be brief.")
    client.responses.create(model=MODEL, input="say two", previous_response_id=first.id, instructions="Be long.")
    assert bench.engine.requests[-1]["messages"] == [
        {"role": "system", "content": "Be long."},
        {"role": "user", "content": "say one"},
        {"role": "assistant", "content": "one "},
        {"role": "user", "content": "say two"},
    ]
    with pytest.raises(openai.NotFoundError) as refused:
        client.responses.create(model=MODEL, input="say two", previous_response_id="resp_x")
    assert refused.value.param == "previous_response_id"


@pytest.mark.parametrize("stream", [False, True])
def test_a_function_is_called_and_answered(bench: Bench, stream: bool) -> None:
    client = bench.openai()
    if stream:
        with client.responses.stream(model=MODEL, input="call", tools=[TOOL]) as events:
            made: Any = events.get_final_response()
    else:
        made = client.responses.create(model=MODEL, input="call", tools=[TOOL], tool_choice="required")
    (call,) = made.output
    assert (call.type, call.call_id, call.name, call.arguments) == (
        "function_call",
        "call_7",
        "weather",
        '{"city": "Oslo"}',
    )
    answered: Any = [
        {"role": "user", "content": "call"},
        call.model_dump(exclude_none=True, exclude={"parsed_arguments"}),
        {"type": "function_call_output", "call_id": call.call_id, "output": "say fine"},
    ]
    assert client.responses.create(model=MODEL, input=answered, tools=[TOOL]).output_text == "fine "
    assert bench.engine.requests[-1]["messages"][2] == {"role": "tool", "tool_call_id": "call_7", "content": "say fine"}


def test_a_limit_on_tokens_leaves_a_response_incomplete(bench: Bench) -> None:
    made = bench.openai().responses.create(model=MODEL, input="say a b c", max_output_tokens=2)
    assert made.status == "incomplete" and made.incomplete_details is not None
    assert made.incomplete_details.reason == "max_output_tokens"


def test_a_response_is_deleted_for_good_and_its_job_and_receipt_stay(bench: Bench) -> None:
    client = bench.openai()
    made = client.responses.create(model=MODEL, input="say secret")
    client.responses.delete(made.id)
    for again in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        with pytest.raises(openai.NotFoundError):
            again(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model=MODEL, input="say two", previous_response_id=made.id)
    job = bench.market.ask(f"/api/v1/ai/jobs/job_{made.id.removeprefix('resp_')}")
    assert (job["state"], job["input"], job["output"]) == ("succeeded", None, None) and job["price"] and job["receipt"]


def test_what_cannot_be_done_is_refused_and_named(bench: Bench) -> None:
    client = bench.openai()
    for more, named in (
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"include": ["reasoning.encrypted_content"]}, "include"),
        ({"input": [{"type": "message", "role": "user"}]}, "input[0].content"),
        ({"frobnicate": 1}, "frobnicate"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model=MODEL, input="say x", extra_body=more)
        assert refused.value.param == named
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_nothing")
    with pytest.raises(openai.NotFoundError):
        client.responses.delete("resp_nothing")
    with (
        pytest.raises(openai.APIError, match="too long"),
        client.responses.stream(model=MODEL, input="refuse too long") as s,
    ):
        s.until_done()


# --- completions ---


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
    assert bench.engine.requests[-1]["logprobs"] is True and bench.engine.requests[-1]["top_logprobs"] == 1


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


def test_a_completion_that_fails_is_the_exception_that_clients_expect(bench: Bench) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        complete(bench, "say x", model="nobody")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="too long"):
        complete(bench, "refuse too long")
    with pytest.raises(openai.APIError) as broken, complete(bench, "crash 3 0.2", stream=True) as stream:
        list(stream)
    assert broken.value.code == "answer_broken"
