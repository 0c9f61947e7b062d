"""The protocols in the OpenAPI document: each operation with a body described in place and an example that holds."""

import json
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from aitbc.kernel.http.body import read_body
from aitbc.modules.ai.module import module
from aitbc.modules.ai.protocols.not_offered import NotOfferedYet
from tools.api import described

PATHS = {path: told for path, told in described()["paths"].items() if path.startswith("/v1/")}
OPERATIONS = {f"{method.upper()} {path}": one for path, told in PATHS.items() for method, one in told.items()}


def handlers() -> list[Any]:
    """Every handler of the protocols but those that answer 501."""
    found = []
    for controller in module.protocol:
        if controller is not NotOfferedYet:
            found += [one for one in vars(controller).values() if hasattr(one, "operation_id")]
    return found


def test_each_handler_has_its_operation() -> None:
    assert {one.operation_id for one in handlers()} == {one["operationId"] for one in OPERATIONS.values()}
    assert {one["tags"][0] for one in OPERATIONS.values()} == {"openai", "anthropic"}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_says_what_it_takes_and_gives(name: str) -> None:
    operation = OPERATIONS[name]
    answer = operation["responses"]["200"]["content"]
    assert ("text/event-stream" in answer) == (operation["operationId"] in STREAMED)
    if operation["operationId"] != "get_file_content":
        assert answer["application/json"]["example"]
    refusal = operation["responses"]["default"]["content"]["application/json"]
    jsonschema_rs.validate(refusal["schema"], refusal["example"])
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None:
        assert "$ref" not in json.dumps(body["schema"])
        jsonschema_rs.validate(body["schema"], body["example"])


STREAMED = {"create_chat_completion", "create_completion", "create_response", "create_message"}


def test_each_example_is_a_request_that_is_read() -> None:
    taken = [one for one in handlers() if one.opt["shown"].request is not None]
    assert len(taken) >= 7
    for handler in taken:
        kind = handler.fn.__annotations__["data"].__args__[0]
        assert read_body(msgspec.json.encode(handler.opt["shown"].request), kind)
