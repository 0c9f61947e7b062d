"""RPC stubs of module faces: calls on the same Protocol, to this process or to another.

Each coroutine of the Protocol is an operation with an argument struct made from its signature. An `AppError` is sent as
its code and message and raised again as the class it was.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast, get_type_hints

import msgspec
from msgspec import Struct

from aitbc.kernel.database.unit_of_work import open_transaction
from aitbc.kernel.primitives.errors import AppError

Api = TypeVar("Api")
Transport = Callable[[str, bytes], Awaitable[tuple[int, bytes]]]
"""Sends an operation and its arguments as JSON to the other process; returns a status and a body."""


class Operation(Struct, frozen=True):
    """One coroutine of a Protocol: its name, argument struct and result type."""

    name: str
    arguments: type[Struct]
    result: Any


class RemoteError(Struct, frozen=True):
    """An `AppError`, serialized."""

    code: str
    message: str
    details: dict[str, Any] = {}


_OPERATIONS: dict[type, Mapping[str, Operation]] = {}


def operations(api: type) -> Mapping[str, Operation]:
    """The operations of a Protocol; anything public in it must be an annotated coroutine."""
    if api not in _OPERATIONS:
        _OPERATIONS[api] = _read_operations(api)
    return _OPERATIONS[api]


def _read_operations(api: type) -> dict[str, Operation]:
    found: dict[str, Operation] = {}
    for name, member in vars(api).items():
        if name.startswith("_"):
            continue
        if not inspect.iscoroutinefunction(member):
            raise TypeError(f"{api.__name__}.{name} must be a coroutine: it may be called from another process")
        hints = get_type_hints(member, include_extras=True)
        parameters = list(inspect.signature(member).parameters.values())[1:]
        fields = [
            (p.name, hints[p.name]) if p.default is p.empty else (p.name, hints[p.name], p.default) for p in parameters
        ]
        arguments = msgspec.defstruct(f"{api.__name__}_{name}", fields, kw_only=True, frozen=True)
        found[name] = Operation(name=name, arguments=arguments, result=hints["return"])
    return found


def _refuse_inside_transaction(api: type, name: str) -> None:
    holder = open_transaction.get()
    assert holder is None, f"{holder} called {api.__name__}.{name} while its transaction is open; finish it first"


def local(api: type[Api], service: Any) -> Api:
    """The face of a module of this process: its own methods, refused inside an open transaction."""

    class Face:
        pass

    face = Face()
    for name in operations(api):
        setattr(face, name, _local_method(api, name, getattr(service, name)))
    return cast(Api, face)


def _local_method(api: type, name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def call(*args: Any, **kwargs: Any) -> Any:
        _refuse_inside_transaction(api, name)
        return await method(*args, **kwargs)

    return call


def remote(api: type[Api], transport: Transport) -> Api:
    """The face of a module of another process; raises what the transport raises (`Unavailable`)."""

    class Face:
        pass

    face = Face()
    for operation in operations(api).values():
        setattr(face, operation.name, _remote_method(api, operation, transport))
    return cast(Api, face)


def _remote_method(api: type, operation: Operation, transport: Transport) -> Callable[..., Awaitable[Any]]:
    names = operation.arguments.__struct_fields__

    async def call(*args: Any, **kwargs: Any) -> Any:
        _refuse_inside_transaction(api, operation.name)
        arguments = operation.arguments(**dict(zip(names, args, strict=False)), **kwargs)
        status, body = await transport(operation.name, msgspec.json.encode(arguments))
        if status == 200:
            return msgspec.json.decode(body, type=operation.result)
        error = msgspec.json.decode(body, type=RemoteError)
        raise AppError.registry.get(error.code, AppError)(error.message, **error.details)

    return call


async def dispatch(api: type, service: Any, name: str, body: bytes) -> tuple[int, bytes]:
    """The server side: run one operation on the service, and encode its result or error."""
    operation = operations(api)[name]
    try:
        arguments = msgspec.json.decode(body, type=operation.arguments)
        result = await getattr(service, name)(**msgspec.structs.asdict(arguments))
    except AppError as error:
        return error.status, msgspec.json.encode(RemoteError(error.code, error.message, error.details))
    return 200, msgspec.json.encode(result)
