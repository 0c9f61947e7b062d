"""API keys: a malformed key is recognised without a look-up, and a key in a text is masked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.kernel.crypto.api_key import KINDS, fingerprint, new_key, visible, well_formed, without_keys


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_key_names_its_kind_and_passes_its_checksum(kind: str) -> None:
    key = new_key(kind)
    assert key.startswith(f"aitbc_{kind}_")
    assert well_formed(key)
    assert len(fingerprint(key)) == 32
    assert visible(key) == key[: len(f"aitbc_{kind}_") + 8]


@given(st.integers(0, 200), st.sampled_from("0aZ_ é\x00"))
def test_one_changed_character_is_refused(where: int, letter: str) -> None:
    key = new_key("live")
    where %= len(key)
    altered = key[:where] + letter + key[where + 1 :]
    assert altered == key or not well_formed(altered)


@given(st.text(max_size=80))
def test_other_text_is_refused(text: str) -> None:
    assert not well_formed(text)


@pytest.mark.parametrize(
    "change", [str.lower, str.upper, lambda k: k + " ", lambda k: " " + k, lambda k: k * 200, lambda k: k + "\x00"]
)
def test_the_same_key_in_other_clothes_is_refused(change: object) -> None:
    assert not well_formed(change(new_key("admin")))  # type: ignore[operator]


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_in_a_text_is_starred_whole_or_cut(kind: str) -> None:
    key = new_key(kind)
    for written in (key, key[:-8]):
        assert without_keys(f'/jobs/{written}?"x"'.encode()) == f'/jobs/aitbc_{kind}_********?"x"'.encode()
    assert without_keys(b"aitbc_live_ and aitbc_config") == b"aitbc_live_ and aitbc_config"
