"""Canonical JSON has one form per value, and a signature holds for exactly those bytes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.kernel.crypto.signing import Key, NotCanonical, canonical, decode_bytes, value_digest, verify

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(max_codepoint=127), max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(st.characters(max_codepoint=127), max_size=8), plain, max_size=6))
def test_the_order_of_keys_does_not_change_the_bytes(value: dict[str, object]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)


@pytest.mark.parametrize("value", [1.5, float("nan"), 2**53, {"é": 1}, b"x", {1: 2}, object()])
def test_what_two_languages_could_print_differently_is_refused(value: object) -> None:
    with pytest.raises(NotCanonical):
        canonical(value)


def test_nesting_past_the_limit_is_refused() -> None:
    deep: list[object] = []
    for _ in range(40):
        deep = [deep]
    with pytest.raises(NotCanonical):
        canonical(deep)


@given(st.binary(min_size=1, max_size=64), st.integers(0, 10**6))
def test_a_flipped_bit_breaks_the_signature(data: bytes, where: int) -> None:
    key = Key.generate()
    signature = key.sign(data)
    assert verify(key.public, data, signature)
    altered = bytearray(data)
    altered[where % len(data)] ^= 1 << where % 8
    assert not verify(key.public, bytes(altered), signature)
    assert not verify(Key.generate().public, data, signature)


@pytest.mark.parametrize("signature", ["", "AAAA", "not base64!", "A" * 86, "A" * 87])
def test_a_malformed_signature_is_simply_false(signature: str) -> None:
    assert not verify(Key.generate().public, b"data", signature)


def test_base_64_has_one_spelling() -> None:
    with pytest.raises(ValueError, match="canonical"):
        decode_bytes("AB")


def test_a_key_file_is_private_and_refused_when_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    made = Key.load(path, create=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Key.load(path).public == made.public
    assert path.read_text().strip() not in repr(made)
    path.chmod(0o644)
    with pytest.raises(PermissionError):
        Key.load(path)


def test_the_digest_of_a_value_ignores_the_order_of_its_keys() -> None:
    assert value_digest({"a": 1.5, "b": [1]}) == value_digest({"b": [1], "a": 1.5})
