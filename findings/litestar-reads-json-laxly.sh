#!/usr/bin/env bash
# litestar 2.25.0 with msgspec 0.22.0: a JSON body read by `data:` of a msgspec Struct is converted, not checked.
#
# Litestar decodes bodies with msgspec in its lax mode. Text becomes a number, a number becomes a flag or a date, and a fraction that
# an integer cannot hold is rounded without a word, although the Struct says `int`, `bool` and `datetime`. The content type is not looked
# at. msgspec by itself, in its strict mode, refuses each of these bodies.
#
# Seen with Python 3.11.7 (status and text of the answer; then what msgspec by itself does):
#   {"units":"5"}                  litestar 201 5 False None                             msgspec refuses
#   {"units":9007199254740993.0}   litestar 201 9007199254740992 False None              msgspec refuses
#   {"paid":1}                     litestar 201 0 True None                              msgspec refuses
#   {"at":0}                       litestar 201 0 False 1970-01-01 00:00:00+00:00        msgspec refuses
# What follows here: amounts travel as decimal text, and bodies are decoded strictly before the framework sees them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check litestar==2.25.0 msgspec==0.22.0 httpx==0.28.1 >&2
"$folder/venv/bin/python" -W ignore - <<'PY'
import logging
from datetime import datetime

import msgspec
from litestar import Litestar, post
from litestar.testing import TestClient


class Payment(msgspec.Struct):
    units: int = 0
    paid: bool = False
    at: datetime | None = None


@post("/")
async def pay(data: Payment) -> str:
    return f"{data.units} {data.paid} {data.at}"


logging.disable()
BODIES = {
    b'{"units":"5"}': "5 False None",
    b'{"units":9007199254740993.0}': "9007199254740992 False None",
    b'{"paid":1}': "0 True None",
    b'{"at":0}': "0 False 1970-01-01 00:00:00+00:00",
}
with TestClient(Litestar([pay])) as client:
    for body, expected in BODIES.items():
        answer = client.post("/", content=body, headers={"content-type": "text/plain"})
        try:
            msgspec.json.decode(body, type=Payment)
            strict = "accepts"
        except msgspec.ValidationError:
            strict = "refuses"
        print(f"{body.decode():<30} litestar {answer.status_code} {answer.text:<40} msgspec {strict}")
        assert (answer.status_code, answer.text, strict) == (201, expected, "refuses"), answer.text
PY
