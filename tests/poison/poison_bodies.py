"""Poison for a body as a whole: its bytes, its syntax, its depth, its size, and what it claims to be."""

import codecs
from collections.abc import Iterator
from dataclasses import replace

from tests.poison.cases import Case, Poison, refused
from tests.poison.operations import JSON, Call, Operation, as_json

BODY_BYTES_MAX = 1024 * 1024
DEEP = 100_000


def reads_json(operation: Operation) -> bool:
    """Whether a body would be read as JSON: everywhere but where files are taken."""
    return operation.media_type in (None, JSON)


def bytes_that_are_no_text(operation: Operation, call: Call) -> Iterator[Case]:
    """Not UTF-8, or UTF-8 after a mark that it is."""
    if not reads_json(operation):
        return
    text = as_json(operation.body).decode() if operation.takes_json else '{"a": "b"}'
    for name, body in {
        "bad UTF-8": text.encode().replace(b'"', b'"\xff\xfe', 1),
        "cut UTF-8": text.encode().replace(b'"', b'"\xe2\x82', 1),
        "overlong UTF-8": text.encode().replace(b'"', b'"\xc0\xaf', 1),
        "surrogates in UTF-8": text.encode().replace(b'"', b'"\xed\xa0\x80', 1),
        "byte order mark": codecs.BOM_UTF8 + text.encode(),
        "UTF-16": text.encode("utf-16"),
        "UTF-16 without a mark": text.encode("utf-16-le"),
        "UTF-32": text.encode("utf-32-le"),
        "Latin-1": text.replace('"', '"é', 1).encode("latin-1"),
    }.items():
        yield refused(name, call.saying(body), 400, code="malformed_json", of_the_wall=not operation.takes_json)


def syntax_that_is_no_json(operation: Operation, call: Call) -> Iterator[Case]:
    """Cut off, run together, or written for another reader."""
    if not reads_json(operation):
        return
    whole = as_json(operation.body) if operation.takes_json else b'{"a": 1}'
    for name, body in {
        "cut off": whole[:-1],
        "two values": whole + whole,
        "trailing comma": whole[:-1] + b",}",
        "a comment": b"/* */" + whole,
        "single quotes": b"{'a': 1}",
        "NUL outside of text": whole + b"\0",
        "raw control character": b'{"a": "\n"}',
        "a form": b"a=1&b=2",
        "XML": b'<?xml version="1.0"?><a/>',
    }.items():
        yield refused(name, call.saying(body), 400, code="malformed_json", of_the_wall=not operation.takes_json)


def values_that_are_no_object(operation: Operation, call: Call) -> Iterator[Case]:
    """Right JSON that is not an object; no body at all."""
    if not operation.takes_json:
        return
    for body in (b"null", b"[]", b'"text"', b"5", b"true", b"[{}]"):
        yield refused(f"{body.decode()} as the body", call.saying(body), 422)
    for body in (b" ", b"\n"):
        yield refused("blanks as the body", call.saying(body), 400, 422)
    if not operation.may_lack_body:
        yield refused("no body", replace(call, body=None).headed("content-type"), 400, 415, 422)
        yield refused("an empty body", call.saying(b""), 400, 422)


def keys_that_come_twice(operation: Operation, call: Call) -> Iterator[Case]:
    """The same member twice, at the top and deep inside, spelled the same or with an escape."""
    if not reads_json(operation):
        return
    whole = as_json(operation.body) if operation.takes_json else b'{"a": 1}'
    for name, more in {
        "twice": b'"a": 1, "a": 2',
        "deep": b'"z": [{"a": 1, "a": 2}]',
        "escape": b'"a": 1, "\\u0061": 2',
    }.items():
        body = whole[:-1] + (b", " if len(whole) > 2 else b"") + more + b"}"
        yield refused(
            f"a key {name}", call.saying(body), 400, code="duplicate_key", of_the_wall=not operation.takes_json
        )


def nesting_that_is_too_deep(operation: Operation, call: Call) -> Iterator[Case]:
    """One level more than allowed, and 100 000."""
    if not reads_json(operation):
        return
    bodies = {"33 arrays": b"[" * 33 + b"]" * 33, "33 objects": b'{"a":' * 33 + b"1" + b"}" * 33}
    if operation.takes_json:
        bodies |= {
            "many arrays": b"[" * DEEP + b"]" * DEEP,
            "many objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
            "many arrays left open": b"[" * DEEP,
        }
    for name, body in bodies.items():
        codes = frozenset({"too_deep", "malformed_json"} if "open" in name else {"too_deep"})
        yield Case(name, call.saying(body), frozenset({400}), codes, of_the_wall=not operation.takes_json)


def more_than_a_body_may_have(operation: Operation, call: Call) -> Iterator[Case]:
    """One byte more, announced or not."""
    if not reads_json(operation):
        return
    wall = not operation.takes_json
    if operation.takes_json:
        body = b'"' + b"a" * (BODY_BYTES_MAX - 1) + b'"'
        yield refused("too large", call.saying(body), 413, code="body_too_large")
        chunked = call.saying(body).headed("transfer-encoding", "chunked")
        yield refused("too large in chunks", chunked, 413, code="body_too_large")
    huge = call.saying(b"{}").headed("content-length", "999999999999")
    yield refused("announced too large", huge, 413, code="body_too_large", of_the_wall=wall)


def media_that_are_not_json(operation: Operation, call: Call) -> Iterator[Case]:
    """No Content-Type, or one that is not JSON in UTF-8; a coding of the content."""
    right = operation.media_type or JSON
    body = call.body or b"{}"
    base = replace(call, body=body)
    wall = operation.media_type is None
    wrong = ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "text/json", "json"]
    wrong += ["application/jsonx", "application/xml", "*/*", "", ";"]
    if right == JSON:
        wrong += [
            f"{JSON}; charset=utf-16",
            f"{JSON}; charset=latin-1",
            f"{JSON}; charset=bogus",
            f"{JSON}; boundary=x",
        ]
    for value in wrong:
        yield refused(f"Content-Type {value!r}", base.headed("content-type", value), 415, of_the_wall=wall)
    yield refused("no Content-Type", base.headed("content-type"), 415, of_the_wall=wall)
    for value in ("gzip", "br", "deflate", "identity, gzip", "bogus"):
        coded = base.headed("content-type", right).headed("content-encoding", value)
        yield refused(f"Content-Encoding {value}", coded, 415, of_the_wall=wall)


def lengths_that_contradict(operation: Operation, call: Call) -> Iterator[Case]:
    """A length that is no number, two of them, or one beside a transfer coding."""
    base = call.headed("content-type", operation.media_type or JSON)
    for value in ("-1", "+5", "0x10", "1e3", "5, 5", "abc", "9" * 30, "\uff15".encode()):
        yield refused(f"Content-Length {value!r}", base.headed("content-length", value), 400, of_the_wall=True)
    both = replace(base, body=b"{}").headed("content-length", "2").headed("transfer-encoding", "chunked")
    yield refused("a length and a transfer coding", both, 400, of_the_wall=True)
    yield refused("two lengths", base.headed("content-length", "5", "6"), 400, of_the_wall=True)


BODIES: tuple[Poison, ...] = (
    bytes_that_are_no_text,
    syntax_that_is_no_json,
    values_that_are_no_object,
    keys_that_come_twice,
    nesting_that_is_too_deep,
    more_than_a_body_may_have,
    media_that_are_not_json,
    lengths_that_contradict,
)
