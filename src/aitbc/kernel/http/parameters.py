"""Path and query parameters, checked against the signature of the handler before the framework converts them."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from litestar import Request, Response

from aitbc.kernel.http.problems import FAULTS_MAX
from aitbc.kernel.http.signature import HandlerSignature, Unfit, query_values, signature_of
from aitbc.kernel.primitives.errors import FieldError, Invalid, NotFound
from aitbc.kernel.primitives.request_errors import UnknownParameter


async def check_parameters(request: Request[Any, Any, Any]) -> Response[None] | None:
    """Hold path and query against the handler's contract. Raises `NotFound`, `UnknownParameter`, `Invalid`.

    Answers OPTIONS, whatever the query: the framework's own handler knows only the first of a path's handlers.
    """
    scope = request.scope
    if allow := scope["route_handler"].opt.get("allow"):
        return Response(None, status_code=204, headers={"Allow": allow})
    contract = signature_of(scope["route_handler"])
    if contract.path:
        _check_path(contract, scope)
    query = scope.get("query_string", b"")
    if (query or contract.query) and not contract.any_query:
        read_query(contract, query)
    return None


def _check_path(contract: HandlerSignature, scope: Any) -> None:
    values: Mapping[str, Any] = scope["path_params"]
    for name, parameter in contract.path.items():
        if parameter.annotation is str:
            continue
        text = str(values.get(name, ""))
        try:
            parameter.read(text)
        except Unfit:
            raise NotFound from None
        if text not in scope["path"].split("/"):  # 007 and +7 are not names of 7
            raise NotFound


def read_query(contract: HandlerSignature, query: bytes) -> dict[str, Any]:
    """The values of a query's parameters, those that came. Raises `UnknownParameter`, `Invalid`."""
    pairs = (
        parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="utf-8", errors="replace") if query else []
    )
    seen: set[str] = set()
    faults = []
    for name, _ in pairs:
        parameter = contract.query.get(name)
        if parameter is None:
            faults.append(FieldError(f"?{name[:64]}", "There is no such parameter"))
        elif name in seen and not parameter.many:
            faults.append(FieldError(f"?{name}", "This parameter came twice"))
        seen.add(name)
    if faults:
        raise UnknownParameter(fields=tuple(faults[:FAULTS_MAX]))
    values, faults = query_values(contract, pairs)
    if faults:
        raise Invalid(fields=tuple(faults[:FAULTS_MAX]))
    return values
