"""What the operator installs is asked, upgraded with a look at its permissions, taken back, and gone when revoked."""

import asyncio
from typing import Any

from sqlalchemy import text

from tests.app import Caller, TestApp
from tests.kernel.hooks.plugins import HALF, module
from tests.modules.plugins.make import API, Publisher, price, publisher, put, word

LOG = '(import "aitbc" "log" (func $log (param i32 i32)))'
QUARTER = HALF.replace("(i64.const 2)", "(i64.const 4)")
LISTED, HALVED, QUARTERED = "0.0000001", "0.00000005", "0.00000002"


async def install(admin: Caller, plugin: str, **more: Any) -> Any:
    return await admin.post(f"{API}/installs", {"plugin": plugin, **more})


async def until_listed(who: Caller) -> None:
    """Wait until no plugin is asked any more."""
    async with asyncio.timeout(30):
        while await price(who) != LISTED:  # noqa: ASYNC110 - another task of the app brings it about
            await asyncio.sleep(0.05)


async def halving(app: TestApp) -> tuple[Publisher, str, Caller]:
    """A published plugin that halves prices, and the operator."""
    alice, name = await publisher(app), word("half")
    version = await alice.publish(alice.manifest(name))
    assert version["state"] == "passed", version
    return alice, version["plugin"], await app.admin()


async def test_an_installed_plugin_changes_a_quote_until_it_is_revoked_and_cannot_come_back(app: TestApp) -> None:
    alice, plugin, admin = await halving(app)
    bob = await app.who("bob")
    assert await price(bob) == LISTED
    assert (await install(bob, plugin)).status_code == 403
    installed = await install(admin, plugin)
    assert (installed.status_code, installed.json()["state"], installed.json()["hooks"]) == (201, "active", ["price.1"])
    assert await price(bob) == HALVED
    revoked = await admin.post(f"{API}/catalogue/{plugin}/revoke", {"reason": "it lies"})
    assert revoked.json() == {"plugin": plugin, "installs": 1, "within_seconds": 0.1}
    await until_listed(bob)
    again = await install(admin, plugin)
    assert (again.status_code, again.json()["code"]) in ((409, "plugin_withdrawn"), (404, "plugin_version_not_found"))
    named = await install(admin, plugin, version="1.0.0")
    assert (named.status_code, named.json()["code"]) == (409, "plugin_withdrawn")
    assert (await admin.get(f"{API}/installs/{plugin}")).status_code == 404
    standing = (await admin.get(f"{API}/installs", limit=1000)).json()["data"]
    assert [(one["state"], one["reason"]) for one in standing if one["plugin"] == plugin] == [("revoked", "it lies")]
    copy = await publisher(app)
    same = await copy.publish(copy.manifest(word("copy")))
    assert [one["rule"] for one in same["findings"]] == ["blocked_module"], "the same module under another name"
    overridden = await install(admin, plugin, version="1.0.0", override=True)
    assert overridden.status_code == 201 and await price(bob) == HALVED
    await app.service("plugins").reconcile_installs()
    assert await price(bob) == HALVED
    assert (await admin.post(f"{API}/installs/{plugin}/remove", {})).json()["versions"] == 1
    assert await price(bob) == LISTED
    async with app.service("plugins").db.reading() as session:
        audited = await session.scalars(
            text("SELECT action FROM plugins.audit WHERE object = :plugin"), {"plugin": plugin}
        )
        assert {"plugins.install", "plugins.revoke", "plugins.remove"} <= set(audited)
    assert alice.namespace in plugin


def quarter(**more: Any) -> bytes:
    return module(QUARTER, data=f'(data (i32.const 0) "{word()}")', **more)


async def test_an_upgrade_shows_what_it_asks_for_and_a_failed_one_leaves_the_old_one(app: TestApp) -> None:
    alice, name, admin, bob = await publisher(app), word("price"), await app.admin(), await app.who("bob")
    plugin = f"{alice.namespace}.{name}"
    await alice.publish(alice.manifest(name), quarter())
    first = (await admin.get(f"{API}/installs/{plugin}/upgrade")).json()
    assert (first["installed"], first["hooks_added"], first["fits"]) == (None, ["price.1"], True)
    assert (await install(admin, plugin)).status_code == 201
    asking = quarter(imports=LOG)
    await alice.publish(alice.manifest(name, version="1.1.0", permissions=("log",)), asking)
    planned = (await admin.get(f"{API}/installs/{plugin}/upgrade")).json()
    assert (planned["installed"], planned["version"]) == ("1.0.0", "1.1.0")
    assert planned["permissions_added"] == planned["permissions_missing"] == ["log"]
    refused = await install(admin, plugin)
    assert (refused.status_code, refused.json()["code"]) == (409, "plugin_permissions_missing")
    assert (await admin.get(f"{API}/installs/{plugin}")).json()["version"] == "1.0.0"
    assert (await install(admin, plugin, grants=["log"])).json()["version"] == "1.1.0"
    back = await admin.post(f"{API}/installs/{plugin}/restore", {})
    assert (back.status_code, back.json()["version"]) == (200, "1.0.0")
    await alice.publish(alice.manifest(name, version="1.2.0"), quarter(pages=1))
    broken = await install(admin, plugin, version="1.2.0")
    assert (broken.status_code, broken.json()["code"]) == (409, "plugin_not_loadable")
    assert "leaves no 65536 bytes" in broken.json()["detail"]
    assert (await admin.get(f"{API}/installs/{plugin}")).json()["version"] == "1.0.0"
    assert await price(bob) == QUARTERED
    figures = (await alice.caller.get(f"{API}/catalogue/{plugin}/figures")).json()
    assert figures["active_installs"] == 1
    await admin.post(f"{API}/installs/{plugin}/remove", {"forget": True})
    assert (await admin.post(f"{API}/installs/{plugin}/restore", {})).status_code == 404
    assert await price(bob) == LISTED


async def test_what_was_modified_after_it_passed_is_not_installed(app: TestApp) -> None:
    alice, name, admin = await publisher(app), word("price"), await app.admin()
    version = await alice.publish(alice.manifest(name), quarter())
    async with app.service("plugins").db.unit_of_work() as uow:
        changing = text("UPDATE plugins.versions SET artifact = artifact || decode('00', 'hex') WHERE plugin = :plugin")
        await uow.session.execute(changing, {"plugin": version["plugin"]})
    refused = await install(admin, version["plugin"])
    assert (refused.status_code, refused.json()["code"]) == (409, "plugin_not_loadable")
    assert "was modified" in refused.json()["detail"]


async def test_calls_are_counted_by_version_and_day(app: TestApp) -> None:
    alice, name, admin, bob = await publisher(app), word("price"), await app.admin(), await app.who("bob")
    version = await alice.publish(alice.manifest(name), quarter())
    await install(admin, version["plugin"])
    for _ in range(3):
        await price(bob)
    assert app.runtime.platform.extensions is not None
    await app.runtime.platform.extensions.flush()
    (day,) = (await alice.caller.get(f"{API}/catalogue/{version['plugin']}/figures")).json()["data"]
    assert (day["calls"], day["failures"], day["installs"]) == (3, 0, 1)
    await admin.post(f"{API}/installs/{version['plugin']}/remove", {})


async def test_one_that_is_sold_is_installed_with_a_licence_and_turned_off_without(app: TestApp) -> None:
    alice, name, admin, bob = await publisher(app), word("price"), await app.admin(), await app.who("bob")
    version = await alice.publish(alice.manifest(name), quarter())
    plugin = version["plugin"]
    assert (await put(alice.caller, f"/catalogue/{plugin}/terms", {"price": "2"})).status_code == 200
    refused = await install(admin, plugin)
    assert (refused.status_code, refused.json()["code"]) == (402, "plugin_licence_needed")
    deposit = {"account": admin.principal.account, "amount": "10"}
    funded = await admin.post("/api/v1/trading/deposits", deposit)
    assert funded.status_code == 201, funded.text
    bought = await admin.post(f"{API}/licences", {"plugin": plugin})
    assert (bought.status_code, bought.json()["state"]) == (201, "held")
    assert (await install(admin, plugin)).status_code == 201 and await price(bob) == QUARTERED
    assert (await admin.post(f"{API}/licences/{bought.json()['id']}/refund")).json()["state"] == "refunded"
    await app.service("plugins").reconcile_installs()
    await until_listed(bob)
