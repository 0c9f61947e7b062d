"""No API key is stored, logged or echoed in clear, wherever in a request it stands."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from aitbc.app import MODULES, parts
from aitbc.kernel.crypto.api_key import masked, new_key
from aitbc.kernel.database.migrations import Part, configuration, migrate
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.telemetry import logs
from aitbc.server.maintenance.backup import _run
from tests.poison.operations import OPERATIONS, Call, Operation, as_json
from tests.poison.stocked import StockedApp, stocked_app
from tests.postgres import run_sql
from tests.scale import only_in_full, scaled

pytestmark = pytest.mark.anyio
SPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda key: key,
    lambda key: f"my key is {key}, keep it",
    lambda key: f"Authorization: Bearer {key.removeprefix('aitbc_live_')}9",
)
STRIDE = scaled(2, 1)
"""Of the places of each operation every one, or every other one: each has two headers at least."""
HOST = ((b"host", b"localhost"),)
OLDER: Mapping[str, Callable[[str], bytes]] = {
    "/gpu/v1/miners/register": lambda key: as_json({"miner_id": key, "gpu": {"name": key, "memory_gb": 24}}),
    "/gpu/v1/marketplace/gpu/register": lambda key: as_json({"gpu": {"name": key}, "miner_id": key}),
    "/ai/jobs": lambda key: as_json({"payload": {"type": "inference", "prompt": key}, "client_id": key}),
}
"""Paths of the older dialect, which is in no description, with bodies that its clients send."""


def escaped(body: bytes, key: str) -> bytes:
    """The same JSON with the letters of the key escaped."""
    return body.replace(key.encode(), "".join(f"\\u{ord(letter):04x}" for letter in key).encode())


async def tables_with(database: Any, text: str) -> list[str]:
    """The tables in which a text stands, in whatever column."""
    tables = await database.fetch(
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
        "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    )
    each = (f"SELECT '{row['name']}' AS name FROM {row['name']} t WHERE strpos(t::text, $1) > 0" for row in tables)
    return [row["name"] for row in await database.fetch(" UNION ".join(each), text)]


def calls_with(stocked: StockedApp, operation: Operation, key: str) -> Iterator[Call]:
    """Requests of an operation with the key in each place where a text may stand."""
    right = operation.brisk(stocked.call(operation))
    yield from (right.headed(name, key) for name in ("x-request-id", "user-agent"))
    if any(field.name == "Idempotency-Key" for field in operation.parameters("header")):
        yield right.headed("idempotency-key", key)
    yield from (right.placed(field.name, key) for field in operation.parameters("path"))
    yield from (right.asked(field.name, key) for field in operation.parameters("query") if field.is_text)
    for number, field in enumerate(field for field in operation.fields if field.is_text or field.is_open):
        body = as_json(operation.with_field(field, SPELLINGS[number % 3](key)))
        fresh = right.headed("idempotency-key", f"{operation.ident}-{number}")
        yield fresh.saying(body if number % 2 else escaped(body, key))


async def test_a_key_in_any_place_of_any_request_is_kept_nowhere(target: Target, tmp_path: Path) -> None:
    key = new_key("live")
    secret = key.removeprefix("aitbc_live_")[8:]
    """What nothing shows: all but the kind and the first eight characters."""
    state, log, dump = tmp_path / "state", tmp_path / "log", tmp_path / "dump"
    state.mkdir(mode=0o700)
    echoed: dict[str, bytes] = {}
    sent = 0
    with log.open("wb") as file:
        logs.configure(logs.LogSettings(level="debug", format="json"), descriptor=file.fileno())
        async with stocked_app(target, state) as stocked:
            for turn, operation in enumerate(OPERATIONS.values()):
                for call in itertools.islice(calls_with(stocked, operation, key), turn % STRIDE, None, STRIDE):
                    answer = await stocked.ask(call)
                    sent += 1
                    if secret.encode() in answer.body + b"".join(value for _, value in answer.headers):
                        echoed[f"{operation.ident} {call.whole_target!r}"] = answer.body[:300]
            for number, path in enumerate(OLDER):
                answer = await stocked.ask(
                    Call("POST", path, {}, headers=HOST).by(stocked.owner).saying(OLDER[path](key))
                )
                assert secret.encode() not in answer.body, (number, path)
            await stocked.settled()
            assert await tables_with(stocked.database, secret) == []
        assert logs.current.writer is not None
        logs.current.writer.close()
        logs.current.writer = None
    assert sent > len(OPERATIONS)
    assert not echoed
    _run("pg_dump", target, "--format=plain", f"--file={dump}")
    assert log.read_bytes().count(b"\n") > sent
    for place in (log, dump, *(path for path in state.rglob("*") if path.is_file())):
        assert secret.encode() not in place.read_bytes(), place


def test_masking_leaves_what_is_no_key() -> None:
    for text in ("a bearer of good news", "aitbc_live_", "Bearer certificates-of-deposit", "aitbc live", "é\ud800"):
        assert masked(text) == text
    key = new_key("admin")
    assert masked({key: [f"x{key}x", 5, None]}) == {"aitbc_admin_********": ["xaitbc_admin_********", 5, None]}
    assert masked("Bearer abcdefghijklmnopqrstuv0123") == "Bearer ********"


def downgrade(part: Part, revision: str, opened: Connection) -> None:
    """Take a schema back to a revision."""
    command.downgrade(configuration(part, opened), revision)


@only_in_full  # migrations of long ago, which nobody changes
async def test_what_was_stored_before_is_masked_by_a_migration(new_database: Callable[[], Target]) -> None:
    target, key = new_database(), new_key("live")
    found = {part.name: part for part in parts(MODULES)}
    way = target.connect_arguments(application="tests", statement_seconds=60)
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(**way))
    async with engine.connect() as connection:
        for name, before in (("kernel", "kernel_0003"), ("ai", "ai_0006"), ("gpu", "gpu_0005")):
            await connection.run_sync(functools.partial(downgrade, found[name], before))
    await engine.dispose()
    answer = f"VALUES (gen_random_uuid(), 'k', ''::bytea, '{{\"client_id\": \"{key}\"}}', now())"
    for schema in ("kernel", "ai", "gpu"):
        await run_sql(target, f"INSERT INTO {schema}.answers (account, key, fingerprint, body, created_at) {answer}")
    account = f"VALUES (gen_random_uuid(), '{key}', lower('{key}'), now())"
    await run_sql(target, f"INSERT INTO kernel.accounts (id, name, folded, created_at) {account}")
    await migrate(target, list(found.values()), secret=None)
    database = await asyncpg.connect(**way)
    try:
        for table, column in (
            ("kernel.answers", "body"),
            ("ai.answers", "body"),
            ("gpu.answers", "body"),
            ("kernel.accounts", "name"),
        ):
            texts = [row[column] for row in await database.fetch(f"SELECT {column} FROM {table}")]
            assert any("aitbc_live_********" in text for text in texts), table
        assert await tables_with(database, key.removeprefix("aitbc_live_")) == []
    finally:
        await database.close()
