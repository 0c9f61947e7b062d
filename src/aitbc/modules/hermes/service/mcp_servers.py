"""MCP servers that agents use: one tool called over streamable HTTP, under the egress policy."""

from collections.abc import Mapping
from typing import Any

import msgspec

from aitbc.kernel.platform import Egress, Unreachable
from aitbc.modules.hermes.service.endpoints import read_object, request_body
from aitbc.modules.hermes.service.settings import HermesSettings

PROTOCOL = "2025-06-18"
"""The newest version with sessions that is asked for; a server answers with the one that it speaks."""
OPENING, CALLING = "1", "2"
"""The ids of the two requests."""


class ToolRefused(Exception):
    """The server answered that it does not do this; the message says what it said."""


class McpServers:
    """Calls tools."""

    def __init__(self, egress: Egress | None, settings: HermesSettings) -> None:
        self._egress = egress
        self._seconds = settings.call_seconds

    async def open(self, server: str) -> dict[str, str]:
        """Begin a session: the headers that its requests carry. Raises `Unreachable`, `ToolRefused`."""
        about = {
            "protocolVersion": PROTOCOL,
            "capabilities": {},
            "clientInfo": {"name": "aitbc", "version": "1"},
        }
        headers, result = await self._ask(server, {}, request_body("initialize", about, OPENING), OPENING)
        spoken = result.get("protocolVersion")
        if not isinstance(spoken, str):
            raise Unreachable("its answer is none of MCP")
        mine = {"mcp-protocol-version": spoken}
        if (session := headers.get("mcp-session-id")) is not None:
            mine["mcp-session-id"] = session
        ready = msgspec.json.encode({"jsonrpc": "2.0", "method": "notifications/initialized"}).decode()
        await self._send(server, mine, ready, (200, 202, 204))
        return mine

    async def call(self, server: str, session: Mapping[str, str], tool: str, arguments: Mapping[str, Any]) -> str:
        """The text of what a tool answers, else its structured answer. Raises `Unreachable`, `ToolRefused`."""
        wanted = request_body("tools/call", {"name": tool, "arguments": dict(arguments)}, CALLING)
        _, result = await self._ask(server, session, wanted, CALLING)
        text = _text_of(result)
        if result.get("isError") is True:
            raise ToolRefused(text[:300] or "the tool failed")
        return text

    async def _ask(
        self, server: str, session: Mapping[str, str], body: str, identity: str
    ) -> tuple[Mapping[str, str], dict[str, Any]]:
        headers, content = await self._send(server, session, body, (200,))
        is_stream = headers.get("content-type", "").startswith("text/event-stream")
        answer = _answer_in(content, identity) if is_stream else read_object(content)
        match answer:
            case {"result": dict(result)}:
                return headers, result
            case {"error": {"message": str(message)}}:
                raise ToolRefused(message[:300])
        raise Unreachable("its answer is none of MCP")

    async def _send(
        self, server: str, session: Mapping[str, str], body: str, fine: tuple[int, ...]
    ) -> tuple[Mapping[str, str], bytes]:
        if self._egress is None:
            raise Unreachable("this process sends nothing outside")
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream", **session}
        answer = await self._egress.fetch(server, self._seconds, body=body.encode(), headers=headers)
        if answer.status not in fine:
            raise Unreachable(f"it answers {answer.status}")
        return answer.headers, answer.body


def _answer_in(stream: bytes, identity: str) -> dict[str, Any]:
    """The answer to a request among the events of a stream; what else the server says is passed over."""
    try:
        text = stream.decode()
    except UnicodeDecodeError:
        raise Unreachable("its answer is no text") from None
    for event in text.replace("\r\n", "\n").replace("\r", "\n").split("\n\n"):
        lines = [line.removeprefix("data:").removeprefix(" ") for line in event.split("\n") if line[:5] == "data:"]
        if not any(lines):
            continue
        message = read_object("\n".join(lines))
        if message.get("id") == identity and ("result" in message or "error" in message):
            return message
    raise Unreachable("its answer ends before the answer came")


def _text_of(result: dict[str, Any]) -> str:
    content = result.get("content")
    parts = [one for one in content if isinstance(one, dict)] if isinstance(content, list) else []
    texts = [one["text"] for one in parts if one.get("type") == "text" and isinstance(one.get("text"), str)]
    if texts:
        return "\n".join(texts)
    structured = result.get("structuredContent")
    return "" if structured is None else msgspec.json.encode(structured).decode()
