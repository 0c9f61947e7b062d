"""The options of every Litestar app, and the checks of its routes before the first request.

An app is built with `**app_options()`; `check_routes` then refuses one whose handlers declare no permission.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from litestar import Litestar
from litestar.exceptions import ClientException, HTTPException, ImproperlyConfiguredException
from litestar.handlers import BaseRouteHandler
from litestar.response import Stream
from litestar.routes import HTTPRoute

from aitbc.kernel.http.admission import lasts
from aitbc.kernel.http.body import StrictBody
from aitbc.kernel.http.dialects import answer_error
from aitbc.kernel.http.scope import MUTATING
from aitbc.kernel.http.signature import HandlerSignature, signature_of
from aitbc.kernel.identity.principal import PUBLIC
from aitbc.server.asgi.parameters import check_parameters

WAIT_NAMES = frozenset({"seconds", "wait_seconds", "max_wait_seconds"})
"""What parameters and fields are called that say how long a request may wait."""


def app_options() -> dict[str, Any]:
    """The options of every Litestar app: `Litestar(routes, **app_options())`."""
    return {
        "dto": StrictBody,
        "return_dto": None,
        "before_request": check_parameters,
        "exception_handlers": {Exception: answer_error, HTTPException: answer_error, ClientException: answer_error},
        "openapi_config": None,
        "debug": False,
        "pdb_on_exception": False,
        "logging_config": None,
        "multipart_form_part_limit": 1,
        "request_max_body_size": None,  # the boundary has the limits that the settings promise
    }


def check_routes(app: Litestar) -> None:
    """Check that every handler declares permission and idempotency, and read all signatures before the first request.

    Raises `ImproperlyConfiguredException` that names each handler without `opt["permission"]`, each mutating one that
    neither takes `once` nor declares `opt["idempotency"] = "natural"`, each that waits or streams either way
    without `opt["waits"]` or `opt["lasts"]`, by which it ends with its API key, and each that is deprecated at too
    short a notice.
    """
    missing = []
    methods_by_path: dict[str, set[str]] = defaultdict(set)
    for _, path, methods in handlers(app):
        methods_by_path[path] |= methods
    for handler, path, methods in handlers(app):
        if handler.handler_name == "options_handler" and methods == {"OPTIONS"}:
            handler.opt["permission"] = PUBLIC  # the framework's own: it answers with Allow and nothing else
            handler.opt["allow"] = ", ".join(sorted(methods_by_path[path]))
        if not handler.opt.get("permission"):
            missing.append(f"{path}: {handler} declares no permission")
        signature = signature_of(handler)
        if methods & MUTATING and "once" not in signature.takes and handler.opt.get("idempotency") != "natural":
            missing.append(f"{path}: {handler} changes something, so it must take `once` or declare itself natural")
        if handler.opt.get("permission") != PUBLIC and _is_long(handler, signature) and not lasts(handler.opt):
            missing.append(f"{path}: {handler} waits or streams, so it must declare `waits` or `lasts`")
        if (deprecated := handler.opt.get("deprecated")) is not None and (fault := deprecated.fault()):
            missing.append(f"{path}: {handler} {fault}")
    if missing:
        raise ImproperlyConfiguredException("; ".join(sorted(missing)))


def _is_long(handler: BaseRouteHandler, signature: HandlerSignature) -> bool:
    """Whether a handler streams its answer or takes a streamed body, or is told how long to wait."""
    streams = isinstance(signature.answer, type) and issubclass(signature.answer, Stream)
    fields = getattr(signature.body, "__struct_fields__", ())
    waits = WAIT_NAMES & {*signature.query, *fields}
    return streams or handler.opt.get("raw_body_bytes") is not None or bool(waits)


def resolve_dependencies_in_sequence(app: Litestar) -> None:
    """Have a handler's dependencies resolved one after the other, not in parallel.

    Ours never wait, and the task that the framework makes for each of them costs more than the dependency itself.
    """
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for _, model in route.route_handler_map.values():
                model.dependency_batches = [{one} for batch in model.dependency_batches for one in batch]


def raw_bodies(app: Litestar) -> Callable[[str, str], int | None]:
    """A function of method and path: the size limit of a non-JSON body, from `opt["raw_body_bytes"]`, or none."""
    limits: dict[str, dict[str, int]] = defaultdict(dict)
    for handler, path, methods in handlers(app):
        if (limit := handler.opt.get("raw_body_bytes")) is not None:
            for method in methods:
                limits[method][path_pattern(path).pattern] = limit
    patterns = {method: re.compile("|".join(f"({one})" for one in found)) for method, found in limits.items()}
    in_order = {method: tuple(found.values()) for method, found in limits.items()}

    def limit_of(method: str, path: str) -> int | None:
        pattern = patterns.get(method)
        found = None if pattern is None else pattern.match(path)
        return None if found is None or found.lastindex is None else in_order[method][found.lastindex - 1]

    return limit_of


def waiting_routes(app: Litestar) -> Callable[[str, str], bool]:
    """A function of method and path: whether the route waits or streams, by `opt["waits"]` and `opt["lasts"]`."""
    paths: dict[str, list[str]] = defaultdict(list)
    for handler, path, methods in handlers(app):
        if lasts(handler.opt):
            for method in methods:
                paths[method].append(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(path)))
    patterns = {method: re.compile(rf"(?:{'|'.join(found)})\Z") for method, found in paths.items()}

    def waits(method: str, path: str) -> bool:
        pattern = patterns.get(method)
        return pattern is not None and pattern.match(path) is not None

    return waits


def path_pattern(template: str) -> re.Pattern[str]:
    """The paths of a route: any segment for each parameter."""
    return re.compile(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(template)) + r"\Z")


def handlers(app: Litestar) -> Iterator[tuple[BaseRouteHandler, str, set[str]]]:
    """Every route handler with its path and its methods; WebSocket and ASGI routes have no methods."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                yield handler, route.path_format, {str(method) for method in handler.http_methods}
        else:
            yield route.route_handler, route.path_format, set()
