"""What OpenAI's clients send to `/v1/responses`, and the chat that it asks for."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from aitbc.modules.ai.models.kinds.chat_input import MESSAGES_MAX, PROMPT_BYTES_MAX, TOKENS_MAX, TOOLS_MAX
from aitbc.modules.ai.protocols.openai_requests import TOKENS_WITHOUT_WISH, Label, ModelName, refused

Words = Annotated[str, Meta(max_length=PROMPT_BYTES_MAX)]
ItemId = Annotated[str, Meta(max_length=128)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Effort = Literal["none", "minimal", "low", "medium", "high"]


class InputText(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="input_text"):
    """Words of a user."""

    text: Words


class OutputText(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="output_text"):
    """Words of the model, from an earlier answer."""

    text: Words
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class InputImage(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="input_image"):
    """A picture of a user."""

    image_url: str
    detail: Literal["auto", "low", "high"] | None = None


class Format(Struct, frozen=True, forbid_unknown_fields=True):
    """What the answer's text must be."""

    type: Literal["text", "json_object", "json_schema"]
    name: Name | None = None
    schema: dict[str, Any] | None = None
    description: Label | None = None
    strict: bool | None = None


class TextSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the answer's text."""

    format: Format | None = None
    verbosity: None = None


class Reasoning(Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of models that think."""

    effort: Effort | None = None
    summary: None = None


class FunctionTool(Struct, frozen=True, forbid_unknown_fields=True):
    """A function that the model may ask for."""

    type: Literal["function"]
    name: Name
    parameters: dict[str, Any] | None = None
    description: Annotated[str, Meta(max_length=16_384)] | None = None
    strict: bool | None = None


class ChosenTool(Struct, frozen=True, forbid_unknown_fields=True):
    """The one function that the model must ask for."""

    type: Literal["function"]
    name: Name


class Item(Struct, frozen=True, forbid_unknown_fields=True):
    """A message, a call of a function, or what one answered: by its type, which may be left out of messages."""

    type: Literal["message", "function_call", "function_call_output"] = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[InputText | OutputText | InputImage] | None = None
    id: ItemId | None = None
    status: str | None = None
    call_id: Name | None = None
    name: Name | None = None
    arguments: Words | None = None
    output: str | list[InputText] | None = None


class ResponseRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/responses`."""

    model: ModelName
    input: str | Annotated[list[Item], Meta(max_length=MESSAGES_MAX)]
    instructions: Words | None = None
    previous_response_id: Annotated[str, Meta(max_length=64)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=TOKENS_MAX)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=TOOLS_MAX)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | None = None
    parallel_tool_calls: bool | None = None
    text: TextSettings | None = None
    reasoning: Reasoning | None = None
    stream: bool | None = None
    store: bool | None = None
    """Taken either way: the job of an answer is kept for its retention, under the answer's id."""
    truncation: Literal["disabled"] | None = None
    """Only that nothing is cut."""
    background: Literal[False] | None = None
    include: Annotated[list[str], Meta(max_length=0)] | None = None
    service_tier: Literal["auto", "default"] | None = None
    user: Label | None = None
    """A label of the client's own; nothing depends on it."""
    safety_identifier: Label | None = None
    """As `user`."""
    prompt_cache_key: Label | None = None
    """As `user`."""
    metadata: Annotated[dict[str, Label], Meta(max_length=16)] | None = None
    """As `user`."""

    def work(self, earlier: list[dict[str, Any]]) -> dict[str, Any]:
        """The input of a job of kind `chat`, after the messages of an earlier one."""
        messages = [{"role": "system", "content": self.instructions}] if self.instructions else []
        messages += [*earlier, *_messages(self.input)]
        asked: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "max_tokens": self.max_output_tokens or TOKENS_WITHOUT_WISH,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "parallel_tool_calls": self.parallel_tool_calls,
            "reasoning_effort": None if self.reasoning is None else self.reasoning.effort,
            "tools": [_tool(tool) for tool in self.tools or ()] or None,
            "tool_choice": _choice(self.tool_choice),
            "response_format": None if self.text is None or self.text.format is None else _format(self.text.format),
        }
        return dict(msgspec.to_builtins({name: value for name, value in asked.items() if value is not None}))


def _messages(given: str | list[Item]) -> list[dict[str, Any]]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    found: list[dict[str, Any]] = []
    for number, item in enumerate(given):
        at = f"input/{number}"
        match item.type:
            case "message":
                found.append(_message(at, item))
            case "function_call":
                _add_call(at, item, found)
            case "function_call_output":
                _require(at, item, "call_id", "output")
                output = (
                    item.output if isinstance(item.output, str) else "\n".join(one.text for one in item.output or ())
                )
                found.append({"role": "tool", "tool_call_id": item.call_id, "content": output})
    return found


def _message(at: str, item: Item) -> dict[str, Any]:
    _require(at, item, "role", "content")
    content: Any = item.content
    if not isinstance(content, str):
        parts = [_part(part) for part in content]
        is_text = all(part["type"] == "text" for part in parts)
        content = "".join(part["text"] for part in parts) if is_text and item.role != "user" else parts
    return {"role": item.role, "content": content}


def _part(part: InputText | OutputText | InputImage) -> dict[str, Any]:
    if isinstance(part, InputImage):
        detail = {} if part.detail is None else {"detail": part.detail}
        return {"type": "image_url", "image_url": {"url": part.image_url, **detail}}
    return {"type": "text", "text": part.text}


def _add_call(at: str, item: Item, found: list[dict[str, Any]]) -> None:
    """Calls that stand beside each other are of one message."""
    _require(at, item, "call_id", "name", "arguments")
    function = {"name": item.name, "arguments": item.arguments}
    call = {"id": item.call_id, "type": "function", "function": function}
    if found and found[-1]["role"] == "assistant":
        found[-1].setdefault("tool_calls", []).append(call)
    else:
        found.append({"role": "assistant", "tool_calls": [call]})


def _require(at: str, item: Item, *names: str) -> None:
    for name in names:
        if getattr(item, name) is None:
            raise refused(f"{at}/{name}", f"An item of type {item.type} has it.")


def _tool(tool: FunctionTool) -> dict[str, Any]:
    named = {"name": tool.name, "parameters": tool.parameters, "description": tool.description, "strict": tool.strict}
    return {"type": "function", "function": {name: value for name, value in named.items() if value is not None}}


def _choice(choice: str | ChosenTool | None) -> Any:
    if isinstance(choice, ChosenTool):
        return {"type": "function", "function": {"name": choice.name}}
    return choice


def _format(wanted: Format) -> dict[str, Any]:
    if wanted.type != "json_schema":
        return {"type": wanted.type}
    if wanted.name is None:
        raise refused("text/format/name", "A format of type json_schema has a name.")
    schema = {"name": wanted.name, "schema": wanted.schema, "description": wanted.description, "strict": wanted.strict}
    return {"type": "json_schema", "json_schema": {name: value for name, value in schema.items() if value is not None}}
