#!/usr/bin/env bash
# a2a-sdk 1.3.0 on httpx 0.28.1: a line separator of Unicode inside of a JSON text ends the line of a server-sent event.
#
# Server-sent events end lines at CR and LF alone (WHATWG HTML 9.2.6), and JSON lets U+2028, U+2029 and U+0085 stand in its strings as
# they are (RFC 8259, 7). The client reads streams by httpx's `aiter_lines()`, which splits as `str.splitlines()` does: what follows the
# first of them is taken for another field and dropped, so the data is half a JSON text and the stream ends with an error. Language models
# write U+2028. httpx-sse 0.4.3, on the same httpx, reads the event whole.
#
# Seen with Python 3.11.7 on 2026-11-28:
#   a2a-sdk: '{"text": "one'
#   httpx-sse: '{"text": "one\u2028two"}'
# What follows here: JSON in our streams has the three as escapes (kernel/http/event_data.py), and the test of streams sends them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check a2a-sdk==1.3.0 httpx==0.28.1 httpx-sse==0.4.3 >&2
"$folder/venv/bin/python" - <<'PY'
import asyncio

import httpx
from a2a.client.transports.http_helpers import parse_sse_stream
from httpx_sse import EventSource

SENT = 'data: {"text": "one\u2028two"}\n\n'.encode()


def answer(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=SENT)


async def main() -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        async with client.stream("GET", "http://localhost/") as response:
            mine = [data async for _, data in parse_sse_stream(response)]
        async with client.stream("GET", "http://localhost/") as response:
            whole = [event.data async for event in EventSource(response).aiter_sse()]
    print("a2a-sdk:", ascii(mine[0]))
    print("httpx-sse:", ascii(whole[0]))
    assert mine == ['{"text": "one'], mine
    assert whole == ['{"text": "one\u2028two"}'], whole


asyncio.run(main())
PY
