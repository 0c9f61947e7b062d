"""Anthropic's own client against a served installation with a miner: it works unchanged, and fails as it expects to."""

import json
from typing import Any

import anthropic
import httpx
import pytest

from tests.modules.ai.protocols.bench import Bench
from tests.modules.ai.protocols.scripted_engine import MODEL

TOOL: Any = {"name": "weather", "description": "Weather.", "input_schema": {"type": "object", "properties": {}}}


def asked(words: str, **more: Any) -> Any:
    return {"model": MODEL, "max_tokens": 300, "messages": [{"role": "user", "content": words}], **more}


def test_a_message_is_answered_whole(bench: Bench) -> None:
    answer = bench.anthropic().messages.create(**asked("say hello you", system="Be brief."))
    assert [block.text for block in answer.content if block.type == "text"] == ["hello you "]
    assert (answer.role, answer.type, answer.model, answer.stop_reason) == ("assistant", "message", MODEL, "end_turn")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (5, 2) and answer._request_id
    assert bench.engine.requests[-1]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert answer.aitbc["price"]


def test_the_clients_own_helper_reads_a_stream(bench: Bench) -> None:
    with bench.anthropic().messages.stream(**asked("say one two")) as stream:
        assert "".join(stream.text_stream) == "one two "
        final = stream.get_final_message()
    assert (final.stop_reason, final.usage.input_tokens, final.usage.output_tokens) == ("end_turn", 5, 2)


def test_a_stream_has_every_event_in_its_order(bench: Bench) -> None:
    with bench.anthropic().messages.create(**asked("say one", stream=True)) as stream:
        kinds = [event.type for event in stream]
    assert kinds == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_a_tool_is_asked_for_and_answered(bench: Bench) -> None:
    client = bench.anthropic()
    answer = client.messages.create(**asked("call", tools=[TOOL], tool_choice={"type": "any"}))
    assert answer.stop_reason == "tool_use" and bench.engine.requests[-1]["tool_choice"] == "required"
    (call,) = (block for block in answer.content if block.type == "tool_use")
    assert (call.id, call.name, call.input) == ("call_7", "weather", {"city": "Oslo"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "say fine"}
    turns: Any = [
        {"role": "user", "content": "call"},
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in answer.content]},
        {"role": "user", "content": [result]},
    ]
    after = client.messages.create(model=MODEL, max_tokens=50, messages=turns, tools=[TOOL])
    assert [block.text for block in after.content if block.type == "text"] == ["fine "]
    told = bench.engine.requests[-1]["messages"]
    assert told[1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Oslo"}'}
    assert told[2] == {"role": "tool", "tool_call_id": "call_7", "content": "say fine"}


def test_a_tool_is_asked_for_in_a_stream(bench: Bench) -> None:
    with bench.anthropic().messages.stream(**asked("call", tools=[TOOL])) as stream:
        final = stream.get_final_message()
    assert [(block.name, block.input) for block in final.content if block.type == "tool_use"] == [
        ("weather", {"city": "Oslo"})
    ]


def test_every_parameter_reaches_the_models_server(bench: Bench) -> None:
    older = {"temperature": 0.5, "top_p": 0.9}  # the client knows them no more, others send them
    told = asked("say a b c", stop_sequences=["END"], extra_body=older) | {"max_tokens": 2}
    answer = bench.anthropic().messages.create(**told)
    seen = bench.engine.requests[-1]
    assert (seen["temperature"], seen["top_p"], seen["stop"], seen["max_tokens"]) == (0.5, 0.9, ["END"], 2)
    assert answer.stop_reason == "max_tokens"


def test_tokens_are_counted_without_a_miner_and_without_money(bench: Bench) -> None:
    before = bench.money(), len(bench.engine.requests)
    counted = bench.anthropic().messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "say hé"}])
    assert counted.input_tokens == len("say hé".encode())
    assert (bench.money(), len(bench.engine.requests)) == before


def test_failures_are_the_exceptions_that_the_client_expects(bench: Bench) -> None:
    client = bench.anthropic()
    with pytest.raises(anthropic.NotFoundError, match="scripted"):
        client.messages.create(**asked("say x") | {"model": "script"})
    with pytest.raises(anthropic.AuthenticationError):
        bench.anthropic(auth_token="aitbc_live_nobody").messages.create(**asked("say x"))
    with pytest.raises(anthropic.BadRequestError, match="top_k") as refused:
        client.messages.create(**asked("say x", extra_body={"top_k": 5}))
    body: Any = refused.value.body
    assert body["type"] == "error" and body["error"]["type"] == "invalid_request_error" and body["request_id"]
    with pytest.raises(anthropic.BadRequestError, match="too long"):
        client.messages.create(**asked("refuse too long"))
    with (
        pytest.raises(anthropic.APIStatusError, match="too long"),
        client.messages.stream(**asked("refuse too long")) as s,
    ):
        s.until_done()


def test_the_key_may_come_in_the_older_header(bench: Bench) -> None:
    url, body = f"{bench.server.url}/v1/messages", json.dumps(asked("say x"))
    headers = {"x-api-key": bench.key, "content-type": "application/json", "anthropic-version": "2023-06-01"}
    answer = httpx.post(url, content=body, headers=headers, timeout=60)
    assert answer.status_code == 200 and answer.json()["content"] == [{"type": "text", "text": "x "}]
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
