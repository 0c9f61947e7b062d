"""Check path and query parameters against the handler's signature, before the framework converts them loosely."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from litestar import Request, Response

from aitbc.kernel.http.problems import FAULTS_MAX
from aitbc.kernel.http.signature import HandlerSignature, InvalidParameter, query_values, signature_of
from aitbc.kernel.primitives.errors import FieldError, Invalid, NotFound
from aitbc.kernel.primitives.request_errors import UnknownParameter


async def check_parameters(request: Request[Any, Any, Any]) -> Response[None] | None:
    """Check the path and query of a request. Raises `NotFound`, `UnknownParameter`, `Invalid`.

    Answers OPTIONS, whatever the query: the framework's own handler knows only the first of a path's handlers.
    """
    scope = request.scope
    if allow := scope["route_handler"].opt.get("allow"):
        return Response(None, status_code=204, headers={"Allow": allow})
    signature = signature_of(scope["route_handler"])
    if signature.path:
        _check_path(signature, scope)
    query = scope.get("query_string", b"")
    if (query or signature.query) and not signature.any_query:
        read_query(signature, query)
    return None


def _check_path(signature: HandlerSignature, scope: Any) -> None:
    values: Mapping[str, Any] = scope["path_params"]
    for name, parameter in signature.path.items():
        if parameter.annotation is str:
            continue
        text = str(values.get(name, ""))
        try:
            parameter.read(text)
        except InvalidParameter:
            raise NotFound from None
        if text not in scope["path"].split("/"):  # 7 has one spelling: not 007, not +7
            raise NotFound


def read_query(signature: HandlerSignature, query: bytes) -> dict[str, Any]:
    """The query parameters that were given, by the handler's arguments. Raises `UnknownParameter`, `Invalid`."""
    pairs = (
        parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="utf-8", errors="replace") if query else []
    )
    seen: set[str] = set()
    faults = []
    for name, _ in pairs:
        parameter = signature.query.get(name)
        if parameter is None:
            faults.append(FieldError(f"?{name[:64]}", "There is no such parameter"))
        elif name in seen and not parameter.many:
            faults.append(FieldError(f"?{name}", "This parameter came twice"))
        seen.add(name)
    if faults:
        raise UnknownParameter(fields=tuple(faults[:FAULTS_MAX]))
    values, faults = query_values(signature, pairs)
    if faults:
        raise Invalid(fields=tuple(faults[:FAULTS_MAX]))
    return values
