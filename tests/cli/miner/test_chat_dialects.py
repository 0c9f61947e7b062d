"""The streams of the chat servers that miners run, each in its own dialect of the OpenAI protocol."""

import json
from typing import Any

import pytest

from aitbc_cli.miner.executors.chat_answer import output_of
from aitbc_cli.miner.executors.chat_stream import BrokenStream, StreamedAnswer

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1790000000}
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


def chunk(delta: Any, finish: str | None = None, **more: Any) -> str:
    return json.dumps(HEAD | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} | more)


def events(*data: str, end: str = "\n") -> bytes:
    return "".join(f"data: {one}{end}{end}" for one in data).encode()


LLAMA_CPP = events(
    chunk({"role": "assistant", "content": None}, model="tiny", system_fingerprint="b11549"),
    chunk({"content": "Hel"}, model="tiny"),
    chunk({"content": "lo."}, model="tiny"),
    chunk({}, "stop", model="tiny"),
    json.dumps(HEAD | {"model": "tiny", "choices": [], "usage": USAGE, "timings": {"predicted_n": 2}}),
    "[DONE]",
)
VLLM = events(
    chunk({"role": "assistant", "content": ""}, model="tiny"),
    json.dumps(
        HEAD
        | {
            "model": "tiny",
            "choices": [{"index": 0, "delta": {"content": "Hello."}, "logprobs": None, "finish_reason": None}],
        }
    ),
    json.dumps(
        HEAD
        | {
            "model": "tiny",
            "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop", "stop_reason": None}],
        }
    ),
    json.dumps(HEAD | {"model": "tiny", "choices": [], "usage": USAGE}),
    "[DONE]",
)
OLLAMA = events(
    chunk({"role": "assistant", "content": "Hel"}, model="tiny", system_fingerprint="fp_ollama"),
    chunk({"role": "assistant", "content": "lo."}, model="tiny", system_fingerprint="fp_ollama"),
    chunk({"role": "assistant", "content": ""}, "stop", model="tiny", system_fingerprint="fp_ollama"),
    json.dumps(HEAD | {"model": "tiny", "choices": [], "usage": USAGE}),
    "[DONE]",
)
LM_STUDIO = b": keep-alive\r\n\r\n" + events(
    chunk({"role": "assistant", "content": "Hello."}, model="tiny"),
    chunk({}, "stop", model="tiny"),
    json.dumps(HEAD | {"model": "tiny", "choices": [], "usage": USAGE}),
    "[DONE]",
    end="\r\n",
)
OLDER = {
    "an empty data line between": LLAMA_CPP.replace(b"\n\ndata", b"\n\ndata:\n\ndata"),
    "carriage returns alone": VLLM.replace(b"\n", b"\r"),
    "one chunk in two data lines": OLLAMA.replace(b', "choices"', b'\ndata: , "choices"'),
    "a byte order mark": b"\xef\xbb\xbf" + LM_STUDIO,
    "names and ids": OLLAMA.replace(b"data: ", b"event: message\nid: 1\ndata: "),
    "no empty lines": LLAMA_CPP.replace(b"\n\n", b"\n"),
    "no end of the last line": VLLM.rstrip(b"\n"),
    "no [DONE]": OLLAMA.replace(b"data: [DONE]\n\n", b""),
    "only [DONE] says that it ends": LLAMA_CPP.replace(b'"finish_reason": "stop"', b'"finish_reason": null'),
}
DIALECTS = {"llama.cpp": LLAMA_CPP, "vLLM": VLLM, "Ollama": OLLAMA, "LM Studio": LM_STUDIO, **OLDER}


def read(content: bytes, size: int = 10_000) -> StreamedAnswer:
    told: list[str] = []
    answer = StreamedAnswer(told.append, bytes_max=10_000)
    for start in range(0, len(content), size):
        answer.feed(content[start : start + size])
    answer.end()
    assert "".join(told) == answer.text
    return answer


@pytest.mark.parametrize("size", [1, 5, 10_000])
@pytest.mark.parametrize("name", DIALECTS)
def test_each_dialect_is_understood(name: str, size: int) -> None:
    answer = read(DIALECTS[name], size)
    assert (answer.text, answer.model, answer.usage) == ("Hello.", "tiny", USAGE)
    assert answer.finish_reason == (None if name.startswith("only") else "stop")


def test_a_stream_that_was_all_thinking_is_an_empty_answer() -> None:
    for field in ("reasoning_content", "reasoning"):
        answer = read(events(chunk({field: "Hm."}), chunk({"content": None}, "length"), "[DONE]"))
        assert (answer.text, answer.finish_reason, answer.is_reasoning) == ("", "length", True)


@pytest.mark.parametrize(
    "error",
    [
        events('{"error": {"code": 500, "message": "context shift is disabled", "type": "server_error"}}'),
        events('{"object": "error", "message": "boom", "code": 400}'),
        b'event: error\ndata: {"error": {"message": "The model has crashed"}}\n\n',
        b'error: {"code": 500, "message": "slot is gone"}\n\n',
    ],
)
def test_an_error_in_the_middle_is_no_answer_in_any_dialect(error: bytes) -> None:
    with pytest.raises(BrokenStream):
        read(events(chunk({"content": "Hel"}, model="tiny")) + error)


@pytest.mark.parametrize("message", [{"content": None, "reasoning_content": "Hm."}, {"role": "assistant"}])
def test_a_whole_answer_that_was_all_thinking_is_empty(message: dict[str, Any]) -> None:
    output = output_of({"choices": [{"message": message, "finish_reason": "length"}]}, "tiny")
    assert output == {
        "message": {"role": "assistant", "content": ""},
        "model": "tiny",
        "finish_reason": "length",
    }


def test_calls_of_tools_likelihoods_and_further_answers_are_put_together_from_their_pieces() -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    pieces = [
        chunk({"role": "assistant", "tool_calls": [call]}, model="tiny"),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city"'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ': "Oslo"}'}}]}),
        chunk(
            {"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "clock", "arguments": "{}"}}]}, "tool_calls"
        ),
        json.dumps({"choices": [{"index": 1, "delta": {"content": "Two"}, "finish_reason": "stop"}]}),
        json.dumps({"choices": [{"index": 0, "delta": {}, "logprobs": {"content": [{"token": "a", "logprob": -1}]}}]}),
    ]
    output = output_of(read(events(*pieces, "[DONE]")).whole, "tiny")
    calls = output["message"]["tool_calls"]
    assert [(one["id"], one["function"]["name"]) for one in calls] == [("c1", "weather"), ("c2", "clock")]
    assert json.loads(calls[0]["function"]["arguments"]) == {"city": "Oslo"}
    assert output["finish_reason"] == "tool_calls" and output["message"]["content"] == ""
    assert output["logprobs"] == {"content": [{"token": "a", "logprob": -1}]}
    assert output["choices"] == [{"message": {"role": "assistant", "content": "Two"}, "finish_reason": "stop"}]


def test_as_many_likely_tokens_are_told_as_were_asked_for() -> None:
    others = [{"token": "a", "logprob": -1}, {"token": "b", "logprob": -2}]
    token = {"token": "a", "logprob": -1, "top_logprobs": others}
    answer = {"choices": [{"message": {"content": "a"}, "logprobs": {"content": [token]}}]}
    for likely in (0, 1, 2):
        [told] = output_of(answer, "tiny", likely=likely)["logprobs"]["content"]
        assert told == {**token, "top_logprobs": others[:likely]}


def test_calls_that_a_server_sends_whole_and_without_numbers_are_kept_apart() -> None:
    calls = [{"id": one, "function": {"name": one, "arguments": "{}"}} for one in ("a", "b")]
    output = output_of({"choices": [{"message": {"content": None, "tool_calls": calls}}]}, "tiny")
    assert [call["id"] for call in output["message"]["tool_calls"]] == ["a", "b"]
