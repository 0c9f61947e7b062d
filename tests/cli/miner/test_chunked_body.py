"""The chunked transfer coding, in whatever pieces it comes."""

import pytest

from aitbc_cli.miner.executors.chunked_body import LINE_BYTES_MAX, ChunkedBody, MalformedBody

BODY = b"5\r\nHello\r\n7;name=value\r\n, world\r\n0\r\nTrailer: x\r\n\r\n"


@pytest.mark.parametrize("size", range(1, len(BODY) + 1))
def test_a_body_is_the_same_in_whatever_pieces_it_comes(size: int) -> None:
    body = ChunkedBody()
    pieces = [BODY[start : start + size] for start in range(0, len(BODY), size)]
    assert b"".join(map(body.feed, pieces)) == b"Hello, world"
    assert body.is_over


def test_a_body_that_was_cut_is_not_over() -> None:
    body = ChunkedBody()
    assert body.feed(b"5\r\nHel") == b"Hel" and not body.is_over


@pytest.mark.parametrize("data", [b"x\r\n", b"\r\n", b"-5\r\n", b"+5\r\n", b"1_0\r\n", b"a" * (LINE_BYTES_MAX + 1)])
def test_what_is_no_chunk_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedBody):
        ChunkedBody().feed(data)
