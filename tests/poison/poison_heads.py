"""Poison for the head of a request: method, host, origin, sizes, and the key of the caller."""

from collections.abc import Iterator
from dataclasses import replace

from tests.poison.cases import Case, Poison, refused
from tests.poison.operations import MUTATING, Call, Operation


def hosts_that_are_not_ours(operation: Operation, call: Call) -> Iterator[Case]:
    """No Host, two of them, or somebody else's."""
    yield refused("no Host", call.headed("host"), 400, code="malformed_host", of_the_wall=True)
    yield refused("an empty Host", call.headed("host", ""), 400, code="malformed_host", of_the_wall=True)
    yield refused(
        "two Hosts", call.headed("host", "localhost", "localhost"), 400, code="malformed_host", of_the_wall=True
    )
    for host in (
        "evil.test",
        "localhost.evil.test",
        "localhost@evil.test",
        "[::2]",
        "127.0.0.2",
        "localhost, evil.test",
    ):
        yield refused(f"Host {host}", call.headed("host", host), 421, of_the_wall=True)


def pages_of_other_sites(operation: Operation, call: Call) -> Iterator[Case]:
    """A browser that speaks for a foreign page may not change anything."""
    if operation.method not in MUTATING:
        return
    for origin in (
        "https://evil.test",
        "null",
        "http://localhost.evil.test",
        "https://localhost",
        "http://localhost:1",
    ):
        yield refused(f"Origin {origin}", call.headed("origin", origin), 403, code="foreign_origin", of_the_wall=True)
    for site in ("cross-site", "same-site"):
        poisoned = call.headed("sec-fetch-site", site)
        yield refused(f"Sec-Fetch-Site {site}", poisoned, 403, code="foreign_origin", of_the_wall=True)
    two = call.headed("origin", "http://localhost", "https://evil.test")
    yield refused("two Origins", two, 400, of_the_wall=True)


def heads_that_are_too_large(operation: Operation, call: Call) -> Iterator[Case]:
    """A header, or all of them together, past the limit."""
    yield refused("a large header", call.headed("x-poison", "a" * 33_000), 431, of_the_wall=True)
    yield refused("many headers", call.headed("x-poison", *["a"] * 101), 431, of_the_wall=True)
    yield refused("a large key", call.headed("authorization", "Bearer " + "a" * 33_000), 431, of_the_wall=True)


def keys_for_idempotency(operation: Operation, call: Call) -> Iterator[Case]:
    """None where one is needed, two of them, too long, empty, or not in ASCII."""
    told = [field for field in operation.parameters("header") if field.name == "Idempotency-Key"]
    if not told:
        return
    if told[0].required:
        missing = call.headed("idempotency-key")
        yield refused("no Idempotency-Key", missing, 422, code="idempotency_key_required")
    for name, value in {"256 characters": b"a" * 256, "empty": b"", "not ASCII": b"\xe9", "a tab": b"a\tb"}.items():
        poisoned = call.headed("idempotency-key", value)
        yield refused(f"Idempotency-Key: {name}", poisoned, 422, code="idempotency_key_malformed")
    two = call.headed("idempotency-key", "a", "b")
    yield refused("two Idempotency-Keys", two, 400, code="malformed_headers")


def methods_that_are_not_taken(operation: Operation, call: Call) -> Iterator[Case]:
    """Every other method of the path, with what HTTP knows besides; bodies are left out."""
    bare = replace(call, body=None).headed("content-type")
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "CONNECT", "POISON", "get"):
        if method not in operation.path_methods:
            poisoned = replace(bare, method=method)
            yield refused(f"the method {method}", poisoned, 405, code="method_not_allowed", of_the_wall=True)


def callers_without_a_key(operation: Operation, call: Call) -> Iterator[Case]:
    """No key, one that is none, two of them, or one in the wrong place."""
    if operation.is_public:
        return
    yield refused("no key", call.headed("authorization"), 401, code="unauthenticated")
    scheme, _, secret = dict(call.headers)[b"authorization"].decode().partition(" ")
    wrong: dict[str, str | bytes] = {
        "no scheme": secret,
        "another scheme": f"Basic {secret}",
        "no secret": scheme,
        "a cut secret": f"{scheme} {secret[:-1]}",
        "a changed secret": f"{scheme} {secret[:-1]}{'a' if secret[-1] != 'a' else 'b'}",
        "upper case": f"{scheme} {secret.upper()}",
        "more behind": f"{scheme} {secret}, {secret}",
        "bytes": b"Bearer \xff\xfe",
        "NUL": f"{scheme} \0{secret}",
        "SQL": f"{scheme} ' OR 1=1 --",
    }
    for name, value in wrong.items():
        yield refused(f"a key with {name}", call.headed("authorization", value), 401, code="unauthenticated")
    two = call.headed("authorization", f"{scheme} {secret}", f"{scheme} {secret}")
    yield refused("the key twice", two, 401, code="unauthenticated")
    both = call.headed("x-api-key", secret)
    yield refused("the key in two headers", both, 401, code="unauthenticated")
    for name in ("api_key", "key", "access_token", "token"):
        asked = call.headed("authorization").asked(name, secret)
        yield refused(f"the key as ?{name}", asked, 401, code="unauthenticated")


HEADS: tuple[Poison, ...] = (
    hosts_that_are_not_ours,
    pages_of_other_sites,
    heads_that_are_too_large,
    keys_for_idempotency,
    methods_that_are_not_taken,
    callers_without_a_key,
)
