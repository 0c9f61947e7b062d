"""Whatever is sent to these protocols, the answer is one that a client's parser survives, and never a 500."""

import copy
import itertools
import json
from typing import Any

import httpx
import pytest

from tests.poison.stocked import StockedApp
from tests.scale import scaled

MODEL = "nowhere-served"

CHAT: dict[str, Any] = {
    "model": MODEL,
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {
            "role": "assistant",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "x"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
    "stop": ["a"],
    "n": 1,
    "logit_bias": {"1": 1},
    "temperature": 1,
    "seed": 1,
    "stream": False,
    "metadata": {"a": "b"},
}
MESSAGE: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 5,
    "system": [{"type": "text", "text": "x"}],
    "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "x"}]},
    ],
    "tools": [{"name": "f", "input_schema": {}}],
    "tool_choice": {"type": "tool", "name": "f"},
    "stop_sequences": ["a"],
}
RESPONSE: dict[str, Any] = {
    "model": MODEL,
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "x"},
    ],
    "instructions": "x",
    "previous_response_id": "resp_x",
    "tools": [{"type": "function", "name": "f", "parameters": {}}],
    "tool_choice": {"type": "function", "name": "f"},
    "text": {"format": {"type": "json_schema", "name": "x", "schema": {}}},
    "reasoning": {"effort": "low"},
}
BODIES = {
    "/v1/chat/completions": CHAT,
    "/v1/embeddings": {"model": MODEL, "input": ["a"], "dimensions": 4, "encoding_format": "float"},
    "/v1/rerank": {
        "model": MODEL,
        "query": "x",
        "documents": ["a", {"text": "b"}],
        "top_n": 1,
        "return_documents": True,
        "user": "u",
    },
    "/v1/responses": RESPONSE,
    "/v1/messages": MESSAGE,
    "/v1/completions": {
        "model": MODEL,
        "prompt": ["hi"],
        "n": 2,
        "best_of": 2,
        "logprobs": 1,
        "stop": ["a"],
        "logit_bias": {"1": 1},
        "echo": False,
        "seed": 1,
    },
    "/v1/batches": {
        "input_file_id": "file_x",
        "endpoint": "/v1/embeddings",
        "completion_window": "24h",
        "metadata": {"a": "b"},
        "output_expires_after": {"anchor": "created_at", "seconds": 3600},
    },
    "/v1/messages/count_tokens": {key: MESSAGE[key] for key in ("model", "messages", "tools", "system")},
}
BAD: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**63, 1e308, "", "\0", "\ud800", "x" * 70_000, [], {}, [[]], [None], {"a": {"b": []}}),
    *(
        {"type": "nonsense"},
        {"role": "user"},
        "data:image/png;base64,AAAA",
        {"type": "image_url", "image_url": {"url": ""}},
    ),
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a body."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, each in inner for place in places(each, (*at, key)))]


def poisoned(body: Any, place: tuple[Any, ...], bad: Any) -> Any:
    """A body with something bad in one place."""
    if not place:
        return bad
    made = copy.deepcopy(body)
    inner = made
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = bad
    return made


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.usefixtures("quiet", "nothing_written")
async def test_no_body_is_answered_by_a_server_error(stocked: StockedApp, path: str) -> None:
    matrix = list(itertools.product(places(BODIES[path]), BAD))
    async with stocked.app.client(stocked.owner) as client:
        for place, bad in matrix[:: scaled(7, 1)]:
            content = json.dumps(poisoned(BODIES[path], place, bad)).encode()
            answer = await client.post(path, content=content, headers={"content-type": "application/json"})
            require_dialect(path, answer, (place, repr(bad)[:50]))


def require_dialect(path: str, answer: httpx.Response, what: Any) -> None:
    """An error that the official clients read: never one of ours, never one of the server's own making."""
    assert 400 <= answer.status_code < 500 and answer.headers["content-type"] == "application/json", (what, answer.text)
    error = answer.json()["error"]
    assert isinstance(error["message"], str) and error["message"] and isinstance(error["type"], str), what
    assert (answer.json().get("type") == "error") == path.startswith("/v1/messages"), what


@pytest.mark.usefixtures("quiet", "nothing_written")
async def test_no_path_and_no_method_is_answered_in_another_form(stocked: StockedApp) -> None:
    names = ("%00", "%", "..", "%C3%A9", "%2Fx", "x" * 9000)
    paths = (
        *BODIES,
        "/v1",
        "/v1/x",
        "/v1/models/a/b/c",
        "/v1/messages/x",
        "/v1/files/x",
        "/v1/files/x/content",
        *(f"/v1/files/{x}" for x in names),
        *(f"/v1/batches/{x}" for x in names),
        "/v1/files?limit=0",
        "/v1/files?order=up",
        "/v1/files?after=x",
        "/v1/batches?limit=x",
        "/v1/batches?after=x",
        "/v1/batches?frobnicate=1",
        "/v1/responses/x",
        "/v1/responses/resp_x/input_items",
        *(f"/v1/models/{x}" for x in names),
    )
    async with stocked.app.client(stocked.owner) as client:
        for path, method in itertools.product(paths, ("GET", "PUT", "PATCH", "DELETE")):
            if (path, method) == ("/v1/batches", "GET"):
                continue  # there is such a list
            require_dialect(path, await client.request(method, path), (method, path[:50]))
