"""Strict JSON: the fast check agrees with an exact, slow one."""

import json
import resource
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.request_errors import DuplicateKey, InvalidText, MalformedJson, OutOfRange, TooDeep
from aitbc.kernel.primitives.strict_json import DEPTH_MAX, check

GOOD = [
    b"{}", b"[]", b'""', b"0", b"-0", b"null", b'{"a":1,"b":[1,2,{"a":3}]}', b'{"a" : 1 ,\n"b"\t:2}', b'{"a":"x:y","b":"12:30"}',
    b'{"a":"\\":","b":1}', b'"\\\\u0000"', b'{"a":"\\\\ud800"}', b'"\\ud83d\\ude00"', '"ж€😀"'.encode(), b'[1.5,1e3,-2E-5]',
    b"9223372036854775807", b"-9223372036854775808", b'{"":{"":1}}', b'{"\\u0061":1,"b":2}', b'"\x7f"', b' {"a":1} ',
    b"[" * DEPTH_MAX + b"]" * DEPTH_MAX,
]  # fmt: skip
BAD: list[tuple[bytes, type[AppError]]] = [
    (b"", MalformedJson), (b"{", MalformedJson), (b"{} {}", MalformedJson), (b"{'a':1}", MalformedJson), (b"01", MalformedJson),
    (b"NaN", MalformedJson), (b"[Infinity]", MalformedJson), (b"-Infinity", MalformedJson), (b"[1,]", MalformedJson),
    (b'"a\x00"', MalformedJson), (b'"\x01"', MalformedJson), (b'"\xff"', MalformedJson), (b'"\xed\xa0\x80"', MalformedJson),
    (b"\xef\xbb\xbf{}", MalformedJson), ('{"a":1}'.encode("utf-16"), MalformedJson), ("{}".encode("utf-16-le"), MalformedJson),
    (b"{}\x00", MalformedJson), (b'"\\x41"', MalformedJson), (b'{"a":1', MalformedJson), (b'{"a":"\\ud800"', MalformedJson),
    (b'"\\u0000"', InvalidText), (b'{"a":["\\\\\\u0000"]}', InvalidText), (b'{"\\u0000":1}', InvalidText),
    (b'"\\ud800"', InvalidText), (b'{"a":{"b":"\\uDFFF x"}}', InvalidText), (b'{"\\ud800":1}', InvalidText), (b'"\\ud800\\ud800"', InvalidText),  # noqa: E501
    (b"9223372036854775808", OutOfRange), (b'{"a":-9223372036854775809}', OutOfRange), (b"[18446744073709551616]", OutOfRange),
    (b"1" * 400, OutOfRange), (b"[" + b"1" * 5000 + b"]", OutOfRange), (b"1e999", OutOfRange), (b'{"a":-1e999}', OutOfRange),
    (b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1), TooDeep), (b"[" * 100_000, TooDeep),
    (b'{"a":' * (DEPTH_MAX + 1) + b"1" + b"}" * (DEPTH_MAX + 1), TooDeep), (b'{"a":' * 100_000, TooDeep),
    (b'{"a":1,"a":1}', DuplicateKey), (b'{"a":1,"\\u0061":2}', DuplicateKey), (b'{"a" :1,"a":2}', DuplicateKey),
    (b'{"a"\n:1,"a"\t:2}', DuplicateKey), (b'[{"b":{"c":1,"c":":"}}]', DuplicateKey), (b'{"":1,"":2}', DuplicateKey),
    (b'{"a":{"x":1},"a":{"y":1}}', DuplicateKey), (b'{"a":"x:y","a":"x:y"}', DuplicateKey), (b'{"a":{"a":{},"b":1},"a":1}', DuplicateKey),  # noqa: E501
]  # fmt: skip


@pytest.mark.parametrize("body", GOOD, ids=repr)
def test_strict_json_passes(body: bytes) -> None:
    check(body)


@pytest.mark.parametrize(("body", "refusal"), BAD, ids=lambda case: repr(case)[:40])
def test_anything_else_is_refused_by_name(body: bytes, refusal: type[AppError]) -> None:
    with pytest.raises(refusal):
        check(body)


KEYS = st.sampled_from(["a", "b", ":", '":', "x:y", "\\", "ж", "\\u0000"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8) | KEYS,  # noqa: E501
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(KEYS, inner), max_size=4).map(tuple),
    max_leaves=12,
)  # fmt: skip


def render(value: Any, blanks: str, *, ascii_only: bool) -> str:
    """JSON text of a value in which an object is a tuple of pairs, so that a key may come twice."""
    if isinstance(value, tuple):
        members = [
            json.dumps(k, ensure_ascii=ascii_only) + f"{blanks}:{blanks}" + render(v, blanks, ascii_only=ascii_only)
            for k, v in value
        ]
        return "{" + f",{blanks}".join(members) + "}"
    if isinstance(value, list):
        return "[" + f"{blanks},".join(render(item, blanks, ascii_only=ascii_only) for item in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


def exact(value: Any) -> set[type[AppError]]:
    """All that is wrong with a value, found by looking at every part of it."""
    wrong: set[type[AppError]] = set()
    if isinstance(value, tuple):
        keys = [key for key, _ in value]
        wrong |= {DuplicateKey} if len(set(keys)) != len(keys) else set()
        for key, item in value:
            wrong |= exact(key) | exact(item)
    elif isinstance(value, list):
        for item in value:
            wrong |= exact(item)
    elif isinstance(value, str) and "\x00" in value:
        wrong.add(InvalidText)
    elif type(value) is int and not -(2**63) <= value < 2**63:
        wrong.add(OutOfRange)
    return wrong


@given(value=VALUES, blanks=st.sampled_from(["", " ", "\n", "\t\r "]), ascii_only=st.booleans())
def test_the_fast_way_agrees_with_an_exact_one(value: Any, blanks: str, ascii_only: bool) -> None:
    body = render(value, blanks, ascii_only=ascii_only).encode()
    wrong = exact(value)
    try:
        check(body)
    except AppError as refusal:
        assert type(refusal) in wrong  # noqa: PT017
    else:
        assert not wrong


def test_a_hundred_thousand_levels_cost_neither_time_nor_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    for _ in range(20):
        with pytest.raises(TooDeep):
            check(b"[" * 100_000)
    assert time.process_time() - started < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10 * 1024
