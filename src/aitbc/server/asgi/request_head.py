"""Checks of a request's head: path, escapes, media type, duplicate headers, and the request id."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from aitbc.kernel.primitives.errors import NotFound
from aitbc.kernel.primitives.ids import new_request_id
from aitbc.kernel.primitives.request_errors import MalformedHeaders, MalformedHost, MalformedPath, UnsupportedMedia

_SAFE_PATH = b"/ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@"
_REQUEST_ID = re.compile(rb"(?!.*aitbc_)[A-Za-z0-9_.-]{1,64}\Z")
"""The form of a client's request id: never a key, since it is stored and shown."""
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(\Z|-)")
"""The W3C's trace context, of any version that there may be: the trace, and the span that called."""
_INCOMPLETE_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NEEDLESS_ESCAPE = re.compile(rb"%(2[DEFdef]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])")
"""An escaped slash, letter, digit, `-`, `.`, `_` or `~`."""
_SLASHES, _RAW_SLASHES = re.compile("//+"), re.compile(b"//+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SINGLE_HEADERS = frozenset(
    {b"content-length", b"transfer-encoding", b"content-type", b"content-encoding", b"origin", b"sec-fetch-site"}
    | {b"x-request-id", b"idempotency-key", b"range", b"last-event-id"}
)


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """The client's own request id where it is well formed, else the trace that it is part of, else a new one.

    So the trace's id is in logs, SQL, events and audit of every process, and goes to the miner with the job.
    """
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.match(given):
        return given.decode()
    parent = trace_parent(headers)
    return new_request_id() if parent is None else parent[0]


def trace_parent(headers: Mapping[bytes, bytes]) -> tuple[str, str] | None:
    """The trace and the span that a request says it is part of, in hexadecimal; none where it says nothing right."""
    parent = headers.get(b"traceparent")
    if parent is not None and (found := _TRACEPARENT.match(parent)):
        return found[1].decode(), found[2].decode()
    return None


def refuse_duplicates(headers: Any) -> None:
    """Refuse a duplicate of a header that proxies and servers could read differently."""
    seen = set()
    for name, _ in headers:
        if name in seen and name == b"host":
            raise MalformedHost
        if name in seen and name in _SINGLE_HEADERS:
            raise MalformedHeaders(f"The header {name.decode()} came twice.")
        seen.add(name)


def tidy_path(scope: Any) -> None:
    """Spell a protocol's path as we do.

    Its clients put it together from two settings, with a slash doubled or at the end, and escape those of a name.
    """
    raw = scope.get("raw_path") or scope["path"].encode()
    if b"//" in raw or raw.endswith(b"/") or b"%2F" in raw:
        scope["path"] = _SLASHES.sub("/", scope["path"]).rstrip("/") or "/"
        scope["raw_path"] = _RAW_SLASHES.sub(b"/", raw.replace(b"%2F", b"/")).rstrip(b"/") or b"/"


def check_path(path: bytes) -> None:
    """Require the canonical spelling of a path: no empty or dot segment, no trailing slash, no needless escape."""
    if path[:1] != b"/":
        raise MalformedPath
    if path.translate(None, _SAFE_PATH):
        text = check_escapes(path)
        if "\\" in text or _NEEDLESS_ESCAPE.search(path):
            raise NotFound("There is nothing at this path.")
    if path == b"/":
        return
    if b"//" in path or path[-1:] == b"/":
        raise NotFound("There is nothing at this path.")
    if b"/." in path and not {b".", b".."}.isdisjoint(path.split(b"/")):
        raise NotFound("There is nothing at this path.")


def check_escapes(part: bytes) -> str:
    """The text of a path or query, its escapes read strictly as UTF-8. Raises `MalformedPath`."""
    if _INCOMPLETE_ESCAPE.search(part):
        raise MalformedPath
    try:
        text = unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        raise MalformedPath from None
    if _CONTROL.search(text):
        raise MalformedPath
    return text


def check_media_type(value: bytes | None) -> None:
    """Require `application/json`, in UTF-8."""
    if value == b"application/json":
        return
    kind, *parameters = (part.strip().lower() for part in (value or b"").split(b";"))
    if kind != b"application/json":
        raise UnsupportedMedia
    for parameter in parameters:
        name, _, charset = parameter.partition(b"=")
        if name.strip() != b"charset" or charset.strip().strip(b'"') not in (b"utf-8", b"utf8"):
            raise UnsupportedMedia
