"""Installed plugins are loaded by each process, checked each time, and gone from all of them when they are turned off."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec
import pytest
from msgspec import structs

from aitbc.kernel.crypto.signing import Key, verify
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.hooks.extensions import Extensions
from aitbc.kernel.hooks.hooks import Hooks
from aitbc.kernel.hooks.points import PRICE, PluginFailed
from aitbc.kernel.hooks.remote import SIGNATURE, Remote, Reply, signed
from aitbc.kernel.hooks.settings import HookSettings
from tests.kernel.hooks.plugins import HALF, installed, manifest, module, price_asked
from tests.kernel.identity.test_accounts import kernel_database
from tests.postgres import run_sql

NODE, PUBLISHER = Key.generate(), Key.generate()
KEEPS = """(drop (call $put (i32.const 0) (i32.const 1) (global.get $question) (i32.const 8))) (i32.const 0)"""
PUT = '(import "aitbc" "put" (func $put (param i32 i32 i32 i32) (result i32)))'


class Endpoint:
    """A remote plugin's endpoint, as the egress reaches it: it signs with its key, whatever it answers."""

    def __init__(self, key: Key, answer: bytes, status: int = 200) -> None:
        self.key, self.answer, self.status = key, answer, status
        self.asked: list[bytes] = []

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float, most: int) -> Reply:
        assert verify(headers["aitbc-node"], signed(headers["aitbc-id"], body), headers[SIGNATURE])
        assert url == "https://plugins.example.org/price" and 0 < seconds <= 1 and most == 65536
        self.asked.append(body)
        signature = self.key.sign(signed(headers["aitbc-id"], self.answer))
        return Reply(self.status, {SIGNATURE: signature}, self.answer)


@asynccontextmanager
async def processes(
    target: Target, count: int = 1, post: Endpoint | None = None
) -> AsyncIterator[list[tuple[Extensions, Hooks]]]:
    """The extensions of some processes over one database."""
    databases = [kernel_database(target) for _ in range(count)]
    made = []
    for database in databases:
        hooks = Hooks(HookSettings())
        made.append((Extensions(database, hooks, NODE, post or Endpoint(PUBLISHER, b"")), hooks))
    try:
        yield made
    finally:
        for database in databases:
            await database.close()
        await run_sql(target, "DELETE FROM kernel.extensions", "DELETE FROM kernel.extension_values")


async def price_of(hooks: Hooks) -> int:
    return (await hooks.fold(PRICE, price_asked())).unit_price_units


async def test_what_is_installed_is_asked_in_every_process_until_it_is_turned_off(target: Target) -> None:
    async with processes(target, 2) as made:
        await made[0][0].install(installed(manifest(), module(HALF), PUBLISHER))
        for extensions, hooks in made:
            await extensions.refresh()
            assert await price_of(hooks) == 500
        assert await made[1][0].turn_off("acme.half", state="revoked", reason="harmful") == 1
        assert await made[1][0].turn_off("acme.half", state="off", reason="again") == 0
        for extensions, hooks in made:
            await extensions.refresh()
            assert await price_of(hooks) == 1000 and not hooks.has(PRICE)


async def test_a_version_takes_the_place_of_another_and_one_that_fails_gives_it_back(target: Target) -> None:
    async with processes(target, 2) as made:
        (extensions, hooks), (elsewhere, _) = made
        await extensions.install(installed(manifest(), module(HALF), PUBLISHER))
        await extensions.refresh()
        broken = module("(i32.const 0)", pages=1)
        await extensions.install(installed(manifest(version="1.1.0"), broken, PUBLISHER))
        await elsewhere.refresh()  # finds that it does not work, and puts the old one back
        await extensions.refresh()
        assert hooks.loaded()["acme.half"].version == "1.0.0" and await price_of(hooks) == 500
        found = {one.version: (one.state, one.reason) for one in await extensions.all()}
        assert found["1.0.0"] == ("active", "")
        assert found["1.1.0"][0] == "failed" and "leaves no" in found["1.1.0"][1]
        better = module("(i64.store (i32.const 16) (i64.const 7)) (i32.const 16)")
        await extensions.install(installed(manifest(version="1.2.0"), better, PUBLISHER))
        await extensions.refresh()
        assert await price_of(hooks) == 7


async def test_one_that_was_modified_or_is_not_signed_or_does_not_fit_is_refused_with_the_reason(
    target: Target,
) -> None:
    good = installed(manifest(), module(HALF), PUBLISHER)
    other = installed(manifest(), module(HALF), Key.generate())
    wrong = {
        "was modified": structs.replace(good, artifact=module("(i32.const 0)")),
        "its manifest cannot": structs.replace(good, manifest="{}"),
        "was modified since": structs.replace(good, version="2.0.0"),
        "not signed": structs.replace(good, signature=other.signature),
        "not signed by": structs.replace(good, signature=""),
        "fits AITBC >=7": installed(manifest(aitbc=">=7"), module(HALF), PUBLISHER),
        "no hook price.9": installed(manifest(hooks=("price.9",)), module(HALF), PUBLISHER),
    }
    async with processes(target) as ((extensions, hooks),):
        for reason, one in wrong.items():
            with pytest.raises(PluginFailed, match=reason):
                await extensions.loaded(one)
        await extensions.install(good)
        await run_sql(target, "UPDATE kernel.extensions SET artifact = artifact || '\\x00'::bytea")
        await extensions.refresh()
        assert not hooks.has(PRICE)
        assert [(one.state, one.reason) for one in await extensions.all()] == [
            ("failed", "it was modified since it was published")
        ]


async def test_what_plugins_keep_and_how_often_they_were_asked_is_written(target: Target) -> None:
    keeping = manifest("acme.keeper", permissions=("storage",))
    async with processes(target, 2) as made:
        (extensions, hooks), (elsewhere, others) = made
        await extensions.install(
            installed(keeping, module(KEEPS, imports=PUT, data='(data (i32.const 0) "k")'), PUBLISHER)
        )
        for one, _ in made:
            await one.refresh()
        await hooks.fold(PRICE, price_asked(at=258))
        await hooks.fold(PRICE, price_asked(at=259))
        await others.fold(PRICE, price_asked(at=260))
        for one, _ in made:
            await one.flush()
        assert await extensions.values("acme.keeper") == {b"k": (260).to_bytes(8, "little")}
        ((version, _, calls, failures),) = await elsewhere.calls("acme.keeper", 1)
        assert (version, calls, failures) == ("1.0.0", 3, 0)
        await extensions.forget_values("acme.keeper")
        assert await extensions.values("acme.keeper") == {}


async def test_a_remote_plugin_is_believed_only_with_its_publishers_signature(target: Target) -> None:
    declared = manifest("acme.far", kind="remote", endpoint="https://plugins.example.org/price")
    asked = price_asked()
    answers = {
        b'{"answer":{"unit_price_units":42}}': 42,
        b'{"answer":null}': None,
    }
    for answer, price in answers.items():
        endpoint = Endpoint(PUBLISHER, answer)
        given = await Remote(declared, PUBLISHER.public, NODE, endpoint).ask(PRICE, asked, None)
        assert given == (None if price is None else PRICE.answer(unit_price_units=price))
        told = msgspec.json.decode(endpoint.asked[0])
        assert (told["hook"], told["question"]["unit_price_units"]) == ("price.1", 1000)
    wrong = {
        "not signed": Endpoint(Key.generate(), b'{"answer":null}'),
        "status 500": Endpoint(PUBLISHER, b"", 500),
        "cannot be read": Endpoint(PUBLISHER, b'{"answer":{"unit_price_units":"7"}}'),
        "cannot be read:": Endpoint(PUBLISHER, b"[" * 10_000),
    }
    for reason, endpoint in wrong.items():
        with pytest.raises(PluginFailed, match=reason):
            await Remote(declared, PUBLISHER.public, NODE, endpoint).ask(PRICE, asked, None)
    async with processes(target, post=Endpoint(PUBLISHER, b'{"answer":{"unit_price_units":9}}')) as (
        (extensions, hooks),
    ):
        await extensions.install(installed(declared, b"", PUBLISHER))
        await extensions.refresh()
        assert await price_of(hooks) == 9
