"""What Anthropic's client sends, and the chat that it asks for."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from aitbc.modules.ai.models.kinds.chat_input import MESSAGES_MAX, PROMPT_BYTES_MAX, TOKENS_MAX, TOOLS_MAX
from aitbc.modules.ai.protocols.openai_requests import ModelName, refused

Words = Annotated[str, Meta(max_length=PROMPT_BYTES_MAX)]
ToolId = Annotated[str, Meta(min_length=1, max_length=128)]


class CacheControl(Struct, frozen=True, forbid_unknown_fields=True):
    """A hint that what stands before may be kept by the server; nothing here depends on it."""

    type: Literal["ephemeral"]
    ttl: str | None = None


class TextBlock(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    """Words."""

    text: Words
    cache_control: CacheControl | None = None
    citations: None = None


class Base64Source(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="base64"):
    """A picture within the request."""

    media_type: Literal["image/png", "image/jpeg"]
    data: str


class ImageBlock(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="image"):
    """A picture."""

    source: Base64Source
    cache_control: CacheControl | None = None


class ToolUseBlock(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="tool_use"):
    """A call of a tool, as the model asked for it."""

    id: ToolId
    name: ToolId
    input: dict[str, Any]
    cache_control: CacheControl | None = None
    caller: dict[str, Any] | None = None


class ToolResultBlock(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="tool_result"):
    """What a tool answered."""

    tool_use_id: ToolId
    content: str | list[TextBlock] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None


Block = TextBlock | ImageBlock | ToolUseBlock | ToolResultBlock


class Turn(Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of the conversation."""

    role: Literal["user", "assistant"]
    content: str | list[Block]


class ToolWish(Struct, frozen=True, forbid_unknown_fields=True):
    """A tool that the model may ask for."""

    name: ToolId
    input_schema: dict[str, Any]
    description: Annotated[str, Meta(max_length=16_384)] | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None


class ToolChoice(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether a tool may or must be asked for, or which."""

    type: Literal["auto", "any", "tool", "none"]
    name: ToolId | None = None
    disable_parallel_tool_use: bool | None = None


class MessageRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

    model: ModelName
    messages: Annotated[list[Turn], Meta(min_length=1, max_length=MESSAGES_MAX)]
    system: str | list[TextBlock] | None = None
    tools: Annotated[list[ToolWish], Meta(max_length=TOOLS_MAX)] | None = None
    tool_choice: ToolChoice | None = None
    cache_control: CacheControl | None = None

    def chat(self) -> dict[str, Any]:
        """The input of a job of kind `chat`, but for its limits."""
        asked: dict[str, Any] = {"model": self.model, "messages": []}
        if self.system:
            asked["messages"].append({"role": "system", "content": _text(self.system)})
        for number, turn in enumerate(self.messages):
            asked["messages"] += _messages(number, turn)
        if self.tools:
            asked["tools"] = [_tool(tool) for tool in self.tools]
        return asked | ({} if self.tool_choice is None or not self.tools else _choice(self.tool_choice))


class CreateMessage(MessageRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/messages`."""

    max_tokens: Annotated[int, Meta(ge=1, le=TOKENS_MAX)]
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop_sequences: Annotated[list[Annotated[str, Meta(min_length=1, max_length=200)]], Meta(max_length=4)] | None = (
        None
    )
    stream: bool | None = None
    metadata: dict[str, str | None] | None = None
    """A label of the client's own; nothing depends on it."""
    service_tier: Literal["auto", "standard_only"] | None = None
    """There is one tier."""

    def work(self) -> dict[str, Any]:
        """The input of a job of kind `chat`."""
        asked = self.chat() | {"max_tokens": self.max_tokens}
        named = {"temperature": self.temperature, "top_p": self.top_p, "stop": self.stop_sequences or None}
        return asked | {name: value for name, value in named.items() if value is not None}


def _messages(number: int, turn: Turn) -> list[dict[str, Any]]:
    """The messages that a turn becomes: what tools answered first, each in a message of its own."""
    if isinstance(turn.content, str):
        return [{"role": turn.role, "content": turn.content}]
    found: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for at, block in enumerate(turn.content):
        match block:
            case TextBlock():
                parts.append({"type": "text", "text": block.text})
            case ImageBlock(source=source):
                url = f"data:{source.media_type};base64,{source.data}"
                parts.append({"type": "image_url", "image_url": {"url": url}})
            case ToolUseBlock():
                _refuse_unless_role(turn, "assistant", f"messages/{number}/content/{at}")
                calls.append(_call(block))
            case ToolResultBlock():
                _refuse_unless_role(turn, "user", f"messages/{number}/content/{at}")
                text = "" if block.content is None else _text(block.content)
                found.append({"role": "tool", "tool_call_id": block.tool_use_id, "content": text})
    if calls:
        said = "".join(part.get("text", "") for part in parts)
        found.append({"role": "assistant", "tool_calls": calls} | ({"content": said} if said else {}))
    elif parts:
        found.append({"role": turn.role, "content": parts})
    return found


def _call(block: ToolUseBlock) -> dict[str, Any]:
    arguments = msgspec.json.encode(block.input).decode()
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments}}


def _tool(tool: ToolWish) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice) -> dict[str, Any]:
    if (choice.name is not None) != (choice.type == "tool"):
        raise refused("tool_choice/name", "A tool is named with the type `tool`, and with no other.")
    named = {"type": "function", "function": {"name": choice.name}}
    wish = {"auto": "auto", "any": "required", "none": "none", "tool": named}[choice.type]
    alone = choice.disable_parallel_tool_use
    return {"tool_choice": wish} | ({} if alone is None else {"parallel_tool_calls": not alone})


def _text(content: str | list[TextBlock]) -> str:
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


def _refuse_unless_role(turn: Turn, role: str, pointer: str) -> None:
    if turn.role != role:
        raise refused(pointer, f"Only the {role} may say this.")
