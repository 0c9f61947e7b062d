"""Pagination: a cursor continues its own list only."""

from datetime import UTC, datetime

import msgspec
import pytest

from aitbc.kernel.crypto.signing import encode_bytes
from aitbc.kernel.primitives.pagination import CURSOR_LENGTH_MAX, InvalidCursor, Page, decode_cursor, encode_cursor

MOMENT = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def walk(items: list[str], limit: int) -> list[list[str]]:
    pages, cursor = [], None
    while True:
        after = Page.position("names", cursor)
        rest = [item for item in items if after is None or item > after]
        page = Page.of("names", rest[: limit + 1], limit, lambda item: item)
        pages.append(page.data)
        assert page.has_more == (page.next_cursor is not None)
        if not page.has_more:
            return pages
        cursor = page.next_cursor


def test_pages_hold_every_item_once() -> None:
    items = [f"item-{number:03}" for number in range(10)]
    assert walk(items, 3) == [items[0:3], items[3:6], items[6:9], items[9:10]]
    assert walk(items, 5) == [items[0:5], items[5:10]]
    assert walk([], 5) == [[]]


def test_a_cursor_carries_its_values_exactly() -> None:
    cursor = encode_cursor("jobs", MOMENT, 2**63 - 1, "ж\n", None)
    assert decode_cursor("jobs", cursor, datetime, int, str, str | None) == (MOMENT, 2**63 - 1, "ж\n", None)
    assert cursor.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "forge",
    [
        lambda good: "",
        lambda good: "null",
        lambda good: good[:-1],
        lambda good: good + "A",
        lambda good: good + "=",
        lambda good: good.swapcase(),
        lambda good: "A" + good[1:],
        lambda good: "ж" + good,
        lambda good: good + "\x00",
        lambda good: "x" * (CURSOR_LENGTH_MAX + 1),
        lambda good: encode_bytes(b"[1,\"a\"]"),
        lambda good: encode_bytes(b"\xff" * 20),
        lambda good: encode_cursor("others", "a"),
        lambda good: encode_cursor("names", "a", bound_to=["queued"]),
        lambda good: encode_cursor("names", "a", "b"),
        lambda good: encode_cursor("names", 7),
        lambda good: encode_cursor("names"),
    ],
)  # fmt: skip
def test_a_forged_or_foreign_cursor_is_refused(forge) -> None:  # type: ignore[no-untyped-def]
    good = encode_cursor("names", "a")
    assert Page.position("names", good) == "a"
    with pytest.raises(InvalidCursor) as caught:
        Page.position("names", forge(good))
    assert caught.value.status == 422
    assert caught.value.fields[0].pointer == "?cursor"


def test_a_position_too_long_for_a_cursor_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="too long"):
        encode_cursor("names", "x" * CURSOR_LENGTH_MAX)


def test_a_page_is_plain_json() -> None:
    page: Page[str] = Page.of("names", ["a", "b"], 1, lambda item: item)
    told = msgspec.json.decode(msgspec.json.encode(page))
    assert told == {"data": ["a"], "next_cursor": page.next_cursor, "has_more": True}
