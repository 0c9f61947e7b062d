"""The documentation pages: OpenAPI document, viewer, and catalogue of errors; all served offline."""

import html
import inspect
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, Router, get

from aitbc.kernel.http.problems import ERRORS_PAGE, is_retryable
from aitbc.kernel.identity.principal import PUBLIC
from aitbc.kernel.primitives.errors import AppError
from aitbc.server.asgi.openapi import advice, catalogued, document

PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-cache",
}
REFERENCE_HEADERS = PAGE_HEADERS | {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
"""The viewer styles its elements one by one. No script but the one that the page names by its digest runs."""
VIEWER_HEADERS = PAGE_HEADERS | {"cache-control": "public, max-age=31536000, immutable"}
VIEWER = "rapidoc-9.3.8"
_OPEN: dict[str, Any] = {"permission": PUBLIC}
_STATIC = files("aitbc.server.asgi") / "static"


def documentation(*, title: str, version: str, description: str) -> Router:
    """The routes `/openapi.json`, `/docs` and `/docs/errors`, with what the two pages need."""
    made: dict[Litestar, bytes] = {}

    @get("/openapi.json", opt=_OPEN)
    async def openapi_json(request: Request[Any, Any, Any]) -> Response[bytes]:
        if request.app not in made:
            openapi = document(request.app, title=title, version=version, description=description)
            made[request.app] = msgspec.json.encode(openapi)
        return Response(made[request.app], media_type="application/json", headers=PAGE_HEADERS)

    return Router(
        "/", route_handlers=[openapi_json, docs, viewer, docs_style, errors, errors_json], include_in_schema=False
    )


@get("/docs", opt=_OPEN)
async def docs() -> Response[bytes]:
    """The reference: shows the description, and tries operations out."""
    return _file("docs.html", "text/html", REFERENCE_HEADERS)


@get(f"/docs/{VIEWER}.js", opt=_OPEN)
async def viewer() -> Response[bytes]:
    """The script of the reference, as its makers released it: static/vendor/README.md."""
    return _file("vendor/rapidoc-min.js", "text/javascript", VIEWER_HEADERS)


@get("/docs/docs.css", opt=_OPEN)
async def docs_style() -> Response[bytes]:
    """How the pages look."""
    return _file("docs.css", "text/css", PAGE_HEADERS)


def _file(name: str, media_type: str, headers: dict[str, str]) -> Response[bytes]:
    return Response((_STATIC / name).read_bytes(), media_type=media_type, headers=headers)


@get(ERRORS_PAGE, opt=_OPEN)
async def errors() -> Response[bytes]:
    """The catalogue of errors, a heading for each code."""
    entries = "\n".join(_entry(kind) for kind in catalogued())
    page = (_STATIC / "errors.html").read_text().replace("<!-- entries -->", entries)
    return Response(page.encode(), media_type="text/html", headers=PAGE_HEADERS)


@get(f"{ERRORS_PAGE}.json", opt=_OPEN)
async def errors_json() -> list[dict[str, Any]]:
    """The catalogue of errors, for programs."""
    return [
        {
            "code": kind.code,
            "status": kind.status,
            "exit_code": kind.exit_code,
            "meaning": meaning(kind),
            "retryable": is_retryable(kind),
            "advice": advice(kind),
        }
        for kind in catalogued()
    ]


def _entry(kind: type[AppError]) -> str:
    code, words = html.escape(kind.code), html.escape(meaning(kind))
    facts = f"HTTP {kind.status} · exit code {kind.exit_code}{' · may be repeated' if is_retryable(kind) else ''}"
    return f'<section id="{code}"><h2>{code}</h2><p class="facts">{facts}</p><p>{words}</p><p>{html.escape(advice(kind))}</p></section>'  # noqa: E501


def meaning(kind: type[AppError]) -> str:
    """What an error says, in one sentence."""
    return "Something went wrong on our side." if kind is AppError else inspect.cleandoc(kind.summary())


_CATALOGUE_HEAD = (
    "# Errors",
    "",
    "Every failure of the API is answered as `application/problem+json` (RFC 9457) with these members: `type` and `docs` (the",
    f"entry of this catalogue at `{ERRORS_PAGE}`), `title`, `status`, `code`, `detail` (what happened this time), `request_id`,",
    "`retryable`, `errors` (what is wrong field by field, as JSON pointers, `?name` for the query) and `details`. Programs read",
    "`code`: it never changes. The command line ends with the exit code shown here. This file is written from the classes in",
    "the source; change it there.",
    "",
    "| code | HTTP | exit code | repeat | meaning | what to do |",
    "|---|---|---|---|---|---|",
)


def error_catalogue() -> str:
    """The catalogue as a document: the text of docs/errors.md."""
    lines = [*_CATALOGUE_HEAD]
    for kind in catalogued():
        words = [f"`{kind.code}`", str(kind.status), str(kind.exit_code), "yes" if is_retryable(kind) else "no"]
        lines.append(
            "| " + " | ".join([*words, *(text.replace("|", "\\|") for text in (meaning(kind), advice(kind)))]) + " |"
        )
    return "\n".join(lines) + "\n"


def write_error_catalogue(path: Path) -> None:
    """Write docs/errors.md."""
    path.write_text(error_catalogue(), encoding="utf-8")
