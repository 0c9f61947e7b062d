"""What a chat is asked with: messages, pictures, tools, and the settings that OpenAI-compatible servers share."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

MESSAGES_MAX = 256
PROMPT_BYTES_MAX = 512 * 1024
TOKENS_MAX = 131_072
BYTES_PER_TOKEN_MAX = 16
"""What one token of an answer may count at most: it bounds the price before the answer is known."""
CHOICES_MAX = 8
TOOLS_MAX = 128
CALLS_MAX = 128
SEED_MAX = 2**53 - 1
"""The largest integer that every JSON reader keeps exact. What a model's server makes of a seed is its own affair."""
FunctionName = Annotated[str, Meta(min_length=1, max_length=128)]
CallId = Annotated[str, Meta(min_length=1, max_length=128)]


class TextPart(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    """Words in a message."""

    text: Annotated[str, Meta(max_length=PROMPT_BYTES_MAX)]
    """The words. For example `What is on this picture?`."""


class ImageUrl(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A picture within the message."""

    url: str
    """A PNG or JPEG file as a data URL. For example `data:image/png;base64,iVBORw0KGgo=`."""
    detail: Literal["auto", "low", "high"] | None = None
    """How closely the model should look, where its server can choose. For example `auto`."""


class ImagePart(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="image_url"):
    """A picture in a message."""

    image_url: ImageUrl
    """The picture."""


class FunctionCall(Struct, frozen=True, forbid_unknown_fields=True):
    """A function that the model wants to be called."""

    name: FunctionName
    """Its name. For example `get_weather`."""
    arguments: Annotated[str, Meta(max_length=PROMPT_BYTES_MAX)]
    """Its arguments as JSON text; models may write what is no JSON. For example `{"city": "Oslo"}`."""


class ToolCall(Struct, frozen=True, forbid_unknown_fields=True):
    """A call of a tool, as the model asked for it."""

    id: CallId
    """By which the tool's message answers it. For example `call_1`."""
    function: FunctionCall
    """What to call."""
    type: Literal["function"] = "function"
    """The sort of tool."""


class Message(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    """Who speaks. For example `user`."""
    content: str | list[TextPart | ImagePart] | None = None
    """What they say: a text, or parts of text and pictures; may be left out beside `tool_calls`.
    For example `Why is the sky blue?`."""
    name: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    """Who speaks, where several do in one role. For example `anna`."""
    tool_calls: Annotated[list[ToolCall], Meta(min_length=1, max_length=CALLS_MAX)] | None = None
    """Of an assistant: the tools that it asked for."""
    tool_call_id: CallId | None = None
    """Of a tool: the call that it answers. For example `call_1`."""


class Function(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A function that the model may ask for."""

    name: FunctionName
    """Its name. For example `get_weather`."""
    description: Annotated[str, Meta(max_length=16_384)] | None = None
    """What it does, for the model. For example `The weather in a city.`."""
    parameters: dict[str, Any] | None = None
    """The JSON schema of its arguments."""
    strict: bool | None = None
    """Whether the arguments must follow the schema exactly, where the model's server can see to it."""


class Tool(Struct, frozen=True, forbid_unknown_fields=True):
    """A tool that the model may ask for."""

    function: Function
    """The function."""
    type: Literal["function"] = "function"
    """The sort of tool."""


class NamedFunction(Struct, frozen=True, forbid_unknown_fields=True):
    """One of the functions."""

    name: FunctionName
    """Its name. For example `get_weather`."""


class NamedTool(Struct, frozen=True, forbid_unknown_fields=True):
    """The one tool that the model must ask for."""

    function: NamedFunction
    """Which."""
    type: Literal["function"] = "function"
    """The sort of tool."""


class JsonSchema(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The schema that an answer must follow."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    """What the schema is called. For example `person`."""
    schema: dict[str, Any] | None = None
    """The JSON schema."""
    description: Annotated[str, Meta(max_length=16_384)] | None = None
    """What it is for, for the model. For example `A person.`."""
    strict: bool | None = None
    """Whether the answer must follow it exactly, where the model's server can see to it."""


class ResponseFormat(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the answer's text must be."""

    type: Literal["text", "json_object", "json_schema"]
    """Any text, any JSON object, or JSON of a schema. For example `json_object`."""
    json_schema: JsonSchema | None = None
    """The schema, with `json_schema`."""


class ChatInput(Struct, frozen=True, forbid_unknown_fields=True):
    """Messages for a chat model, with the settings that OpenAI-compatible servers share."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MESSAGES_MAX)]
    """The conversation so far, the oldest message first."""
    model: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    """The model that must answer; left out, any that the miner serves. For example `llama-3-8b`."""
    max_tokens: Annotated[int, Meta(ge=1, le=TOKENS_MAX)] = 512
    """The most tokens that each answer may have. For example `512`."""
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    """How freely words are chosen: 0 takes the likeliest. For example `0.7`."""
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Only words of this share of the likelihood are taken. For example `0.9`."""
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    """How much words that were often used are avoided. For example `0.0`."""
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    """How much words that were used are avoided. For example `0.0`."""
    seed: Annotated[int, Meta(ge=-SEED_MAX, le=SEED_MAX)] | None = None
    """With the same number a model that can answers the same. For example `1`."""
    stop: Annotated[list[Annotated[str, Meta(min_length=1, max_length=200)]], Meta(max_length=4)] | None = None
    """Texts at which the answer ends. For example `["END"]`."""
    n: Annotated[int, Meta(ge=1, le=CHOICES_MAX)] | None = None
    """How many answers to give; each is paid for. For example `1`."""
    tools: Annotated[list[Tool], Meta(min_length=1, max_length=TOOLS_MAX)] | None = None
    """Tools that the model may ask for."""
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    """Whether it may or must ask for a tool, or for which. For example `auto`."""
    parallel_tool_calls: bool | None = None
    """Whether it may ask for several tools at once."""
    response_format: ResponseFormat | None = None
    """What the answer's text must be."""
    logprobs: bool | None = None
    """Whether to say how likely each token of the answer was."""
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    """With `logprobs`: how many tokens to name that were likely in its place. For example `2`."""
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    """By token number of the model: what is added to its likelihood."""
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = None
    """How long a model that thinks may think. For example `low`."""
