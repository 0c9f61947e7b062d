"""Answers of both bindings: whole, or as a stream."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from litestar import Request, Response
from litestar.response import Stream

from aitbc.kernel.http.event_data import one_line
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.hermes.models.a2a import VERSION
from aitbc.modules.hermes.protocols.errors import (
    MEDIA_TYPE,
    VersionNotSupported,
    encoded,
    fault_of,
    http_error,
    rpc_error,
)
from aitbc.modules.hermes.protocols.operations import Caller, Operations
from aitbc.modules.hermes.service import HermesService

AnyRequest = Request[Any, Any, Any]
KEEP_ALIVE = b": keep-alive\n\n"
STREAM = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def operations_of(hermes: HermesService, caller: Caller, request: AnyRequest) -> Operations:
    """What can be asked of an agent."""
    return Operations(hermes, caller, base_url_of(hermes, caller.agent, request))


def base_url_of(hermes: HermesService, agent: str, request: AnyRequest) -> str:
    """Where an agent answers, with a slash at the end: clients resolve what they ask for against it."""
    root = hermes.settings.public_url or str(request.base_url)
    return f"{root.rstrip('/')}/a2a/{agent}/"


def require_version(request: AnyRequest) -> None:
    """Refuse what is not version 1; without a header the protocol means 0.3. Raises `VersionNotSupported`."""
    said = request.headers.get("a2a-version") or request.query_params.get("A2A-Version") or "0.3"
    if said.partition(".")[0] != VERSION.partition(".")[0]:
        raise VersionNotSupported


def rpc_answer(identity: Any, result: Mapping[str, Any]) -> Response[bytes]:
    """A result over JSON-RPC."""
    return Response(
        encoded({"jsonrpc": "2.0", "id": identity, "result": result}), status_code=200, media_type="application/json"
    )


def rpc_refusal(identity: Any, error: AppError) -> Response[bytes]:
    """An error over JSON-RPC: its status is 200, as the protocol has it."""
    return Response(
        encoded({"jsonrpc": "2.0", "id": identity, "error": rpc_error(error)}),
        status_code=200,
        media_type="application/json",
    )


def http_answer(result: Mapping[str, Any]) -> Response[bytes]:
    """A result over HTTP+JSON."""
    return Response(encoded(result), status_code=200, media_type=MEDIA_TYPE)


def http_refusal(error: AppError) -> Response[bytes]:
    """An error over HTTP+JSON."""
    return Response(encoded(http_error(error)), status_code=fault_of(error).http, media_type=MEDIA_TYPE)


def rpc_stream(identity: Any, events: AsyncIterator[dict[str, Any] | None]) -> Stream:
    """Events over JSON-RPC."""
    head = {"jsonrpc": "2.0", "id": identity}
    return _stream(
        events, lambda event: head | {"result": event}, lambda error: _data(head | {"error": rpc_error(error)})
    )


def http_stream(events: AsyncIterator[dict[str, Any] | None]) -> Stream:
    """Events over HTTP+JSON."""
    return _stream(events, lambda event: event, lambda error: b"event: error\n" + _data(http_error(error)))


def _stream(
    events: AsyncIterator[dict[str, Any] | None],
    wrapped: Callable[[dict[str, Any]], dict[str, Any]],
    refusal: Callable[[AppError], bytes],
) -> Stream:
    async def lines() -> AsyncIterator[bytes]:
        try:
            async with aclosing(events) as told:  # type: ignore[type-var]
                async for event in told:
                    yield KEEP_ALIVE if event is None else _data(wrapped(event))
        except AppError as error:
            yield refusal(error)

    return Stream(lines(), media_type="text/event-stream", headers=STREAM)


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + one_line(encoded(value)) + b"\n\n"
