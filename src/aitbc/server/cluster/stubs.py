"""One Protocol, two roads: the same face of a module whether it lives in this process or in another.

Each coroutine of the Protocol is an operation with an argument struct made from its signature. A refusal crosses as its
code and message and is raised again as the class it was.
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
"""Brings an operation and the JSON of its arguments to the other process; answers a status and a body."""


class Operation(Struct, frozen=True):
    """One coroutine of a Protocol, as data."""

    name: str
    arguments: type[Struct]
    answer: Any


class Refusal(Struct, frozen=True):
    """An `AppError` on its way between processes."""

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
            raise TypeError(f"{api.__name__}.{name} must be a coroutine: it may have to cross to another process")
        hints = get_type_hints(member, include_extras=True)
        parameters = list(inspect.signature(member).parameters.values())[1:]
        fields = [
            (p.name, hints[p.name]) if p.default is p.empty else (p.name, hints[p.name], p.default) for p in parameters
        ]
        arguments = msgspec.defstruct(f"{api.__name__}_{name}", fields, kw_only=True, frozen=True)
        found[name] = Operation(name=name, arguments=arguments, answer=hints["return"])
    return found


def _refuse_inside_transaction(api: type, name: str) -> None:
    holder = open_transaction.get()
    assert holder is None, f"{holder} called {api.__name__}.{name} while its transaction is open; finish it first"


def local(api: type[Api], service: Any) -> Api:
    """The face of a module that lives here: its own methods, refused inside an open transaction."""

    class Face:
        pass

    face = Face()
    for name in operations(api):
        setattr(face, name, _guarded(api, name, getattr(service, name)))
    return cast(Api, face)


def _guarded(api: type, name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def call(*args: Any, **kwargs: Any) -> Any:
        _refuse_inside_transaction(api, name)
        return await method(*args, **kwargs)

    return call


def remote(api: type[Api], road: Transport) -> Api:
    """The face of a module that lives elsewhere; a broken road raises what the road raises (`Unavailable`)."""

    class Face:
        pass

    face = Face()
    for operation in operations(api).values():
        setattr(face, operation.name, _crossing(api, operation, road))
    return cast(Api, face)


def _crossing(api: type, operation: Operation, road: Transport) -> Callable[..., Awaitable[Any]]:
    names = operation.arguments.__struct_fields__

    async def call(*args: Any, **kwargs: Any) -> Any:
        _refuse_inside_transaction(api, operation.name)
        arguments = operation.arguments(**dict(zip(names, args, strict=False)), **kwargs)
        status, body = await road(operation.name, msgspec.json.encode(arguments))
        if status == 200:
            return msgspec.json.decode(body, type=operation.answer)
        refusal = msgspec.json.decode(body, type=Refusal)
        raise AppError.registry.get(refusal.code, AppError)(refusal.message, **refusal.details)

    return call


async def answer(api: type, service: Any, name: str, body: bytes) -> tuple[int, bytes]:
    """The other end of a road: run one operation on the service and encode what comes of it."""
    operation = operations(api)[name]
    try:
        arguments = msgspec.json.decode(body, type=operation.arguments)
        result = await getattr(service, name)(**msgspec.structs.asdict(arguments))
    except AppError as error:
        return error.status, msgspec.json.encode(Refusal(error.code, error.message, error.details))
    return 200, msgspec.json.encode(result)
