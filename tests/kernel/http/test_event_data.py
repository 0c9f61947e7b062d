"""JSON in server-sent events stays one line, wherever a client ends lines."""

import json

import msgspec

from aitbc.kernel.http.event_data import one_line


def test_json_is_one_line_by_any_standard_and_means_the_same() -> None:
    for text in ("one\u2028two\u2029three\x85four\x0bfive\r\nsix", "“plain” café…\xa0", ""):
        line = one_line(msgspec.json.encode({"text": text}))
        assert (len(line.decode().splitlines()), json.loads(line)) == (1, {"text": text})
